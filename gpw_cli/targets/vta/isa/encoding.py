"""Instructions and micro-ops as the bits that the hardware fetches, and back.

    stream = encode(spec, [insn, FinishInsn()])      # 16 bytes each, little endian
    assert decode(spec, stream) == [insn, FinishInsn()]
    decode_columns(spec, stream)["opcode"]           # each field as an array, for many at once

Source: VTA's ``include/vta/hw_spec.h``; ``fields.py`` holds the bit layouts.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gpw_cli.arrays import Int64, UInt32
from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.isa import fields
from gpw_cli.targets.vta.isa import instructions as isa
from gpw_cli.targets.vta.isa.geometry import INSN_BYTES, VtaSpec
from gpw_cli.targets.vta.isa.instructions import Insn, Opcode

_LAYOUT: dict[Opcode, tuple[type[Any], fields.Layout]] = {
    Opcode.LOAD: (isa.MemInsn, fields.MEM),
    Opcode.STORE: (isa.MemInsn, fields.MEM),
    Opcode.GEMM: (isa.GemmInsn, fields.GEMM),
    Opcode.ALU: (isa.AluInsn, fields.ALU),
    Opcode.FINISH: (isa.FinishInsn, fields.FINISH),
}
_CONVERT: dict[str, type[Any]] = {
    "opcode": Opcode,
    "memory_type": isa.MemType,
    "alu_opcode": isa.AluOp,
    **dict.fromkeys(("pop_prev", "pop_next", "push_prev", "push_next", "reset", "use_imm"), bool),
}


def encode(spec: VtaSpec, insns: Iterable[Insn]) -> bytes:
    """16 bytes per instruction. Raises ProgramError for a value that its field cannot hold."""
    every = list(insns)
    places = {code: _limited(spec, code) for code in {insn.opcode for insn in every}}
    return b"".join(
        _encode_one(places[insn.opcode], number, insn) for number, insn in enumerate(every)
    )


@cache
def _placed(spec: VtaSpec, opcode: Opcode) -> tuple[fields.Placed, ...]:
    return fields.bit_positions(opcode.name, _LAYOUT[opcode][1], spec, 2, 64)


Limited = tuple[fields.Placed, int, int]  # the field, its lowest and its highest value


@cache
def _limited(spec: VtaSpec, opcode: Opcode) -> tuple[Limited, ...]:
    return tuple((place, *place.field.limits(spec)) for place in _placed(spec, opcode))


def _encode_one(places: tuple[Limited, ...], number: int, insn: Insn) -> bytes:
    words = [0, 0]
    for (field, word, shift, width), low, high in places:
        bits = int(getattr(insn, field.name))
        if not low <= bits <= high:
            raise ProgramError(
                f"instruction {number} ({insn.opcode.name}): {field.name}={bits} does not fit "
                f"its {width} bits, allowed are {low} to {high}"
            )
        words[word] |= (bits & ((1 << width) - 1)) << shift
    return words[0].to_bytes(8, "little") + words[1].to_bytes(8, "little")


def decode_columns(spec: VtaSpec, stream: bytes) -> dict[str, Int64]:
    """Field name -> int64, one value per instruction, 0 where it has no such field.

    Raises ProgramError for a truncated stream and an unknown opcode.
    """
    if len(stream) % INSN_BYTES:
        raise ProgramError(
            f"the instruction stream of {len(stream)} bytes is truncated: instruction "
            f"{len(stream) // INSN_BYTES} has {len(stream) % INSN_BYTES} of {INSN_BYTES} bytes"
        )
    words = np.frombuffer(stream, "<u8").reshape(-1, 2)
    opcode = (words[:, 0] & 7).astype(np.int64)
    unknown = np.flatnonzero(opcode >= len(Opcode))
    if len(unknown):
        raise ProgramError(
            f"instruction {unknown[0]}: opcode {opcode[unknown[0]]} is unknown, allowed are 0 to "
            f"{len(Opcode) - 1}"
        )
    names = {field.name for _, layout in _LAYOUT.values() for field in layout}
    columns = {name: np.zeros(len(words), np.int64) for name in names}
    for code in Opcode:
        mine = opcode == code
        for field, word, shift, width in _placed(spec, code):
            value = (words[mine, word] >> np.uint64(shift)) & np.uint64((1 << width) - 1)
            sign = 1 << (width - 1) if field.signed else 0
            columns[field.name][mine] = (value.astype(np.int64) ^ sign) - sign
    return columns


def decode(spec: VtaSpec, stream: bytes) -> list[Insn]:
    """The instructions of ``stream``. Raises ProgramError if it is truncated or invalid."""
    columns = {name: values.tolist() for name, values in decode_columns(spec, stream).items()}
    return [_insn(number, code, columns) for number, code in enumerate(columns["opcode"])]


def _insn(number: int, code: int, columns: dict[str, list[int]]) -> Insn:
    kind, layout = _LAYOUT[Opcode(code)]
    names = [f.name for f in layout if f.name != "opcode" or kind is isa.MemInsn]
    try:
        return kind(**{name: _CONVERT.get(name, int)(columns[name][number]) for name in names})  # type: ignore[no-any-return]
    except ValueError as error:
        raise ProgramError(f"instruction {number} ({Opcode(code).name}): {error}") from error


def encode_uops(spec: VtaSpec, dst: ArrayLike, src: ArrayLike, wgt: ArrayLike = 0) -> UInt32:
    """Micro-ops as uint32, from index arrays that broadcast against one another.

    Raises ProgramError for an index that its field cannot hold.
    """
    word, shift = np.zeros(np.broadcast(dst, src, wgt).shape, np.int64), 0
    for field, given in zip(fields.UOP, (dst, src, wgt), strict=True):
        index, width = np.asarray(given, np.int64), field.width(spec)
        bad = (index < 0) | (index >= 1 << width)
        if bad.any():
            raise ProgramError(
                f"micro-op: {field.name}={int(index[bad].flat[0])} does not fit its {width} bits, "
                f"allowed are 0 to {(1 << width) - 1}"
            )
        word |= index << shift
        shift += width
    return word.astype(np.uint32)


def decode_uops(spec: VtaSpec, words: UInt32) -> tuple[Int64, Int64, Int64]:
    """(dst, src, wgt), each int64 in the shape of ``words``."""
    rest, parts = words.astype(np.int64), []
    for field in fields.UOP:
        width = field.width(spec)
        parts.append(rest & ((1 << width) - 1))
        rest >>= width
    dst, src, wgt = parts
    return dst, src, wgt
