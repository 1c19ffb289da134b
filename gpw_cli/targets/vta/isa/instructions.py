"""VTA's instructions as typed objects and as the 128 bits that the hardware fetches.

    insn = GemmInsn(uop_bgn=0, uop_end=9, iter_out=4, iter_in=8, dst_factor_out=8, ...)
    stream = encode(spec, [insn, FinishInsn()])      # 16 bytes each, little endian
    assert decode(spec, stream) == [insn, FinishInsn()]

Source: VTA's ``include/vta/hw_spec.h``; ``fields.py`` holds the bit layouts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from gpw_cli.arrays import Int64, UInt32
from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.isa import fields
from gpw_cli.targets.vta.isa.geometry import INSN_BYTES, VtaSpec


class Opcode(IntEnum):
    """What an instruction does."""

    LOAD = 0
    STORE = 1
    GEMM = 2
    FINISH = 3
    ALU = 4


class MemType(IntEnum):
    """Which scratchpad a LOAD or STORE names; ``dram_base`` counts its elements."""

    UOP = 0
    WGT = 1
    INP = 2
    ACC = 3
    OUT = 4
    ACC_8BIT = 5


class AluOp(IntEnum):
    """The ALU's operations. SHR is arithmetic; only a negative immediate shifts left."""

    MIN = 0
    MAX = 1
    ADD = 2
    SHR = 3
    MUL = 4


@dataclass(frozen=True, kw_only=True)
class _Flags:
    """Dependency tokens popped before, and pushed after, the instruction."""

    pop_prev: bool = False
    pop_next: bool = False
    push_prev: bool = False
    push_next: bool = False


@dataclass(frozen=True, kw_only=True)
class MemInsn(_Flags):
    """LOAD or STORE of ``y_size`` rows of ``x_size`` elements, ``x_stride`` apart in DRAM.

    In SRAM a loaded row is x_pad_0 + x_size + x_pad_1 elements long; rows follow one another.
    """

    opcode: Opcode
    memory_type: MemType
    sram_base: int = 0
    dram_base: int = 0
    y_size: int = 1
    x_size: int = 0
    x_stride: int = 0
    y_pad_0: int = 0
    y_pad_1: int = 0
    x_pad_0: int = 0
    x_pad_1: int = 0


@dataclass(frozen=True, kw_only=True)
class _Loops(_Flags):
    """For i < iter_out, j < iter_in, uops [bgn, end): index + i*factor_out + j*factor_in."""

    reset: bool = False
    uop_bgn: int
    uop_end: int
    iter_out: int = 1
    iter_in: int = 1
    dst_factor_out: int = 0
    dst_factor_in: int = 0
    src_factor_out: int = 0
    src_factor_in: int = 0


@dataclass(frozen=True, kw_only=True)
class GemmInsn(_Loops):
    """acc[dst] += inp[src] . wgt[wgt]^T, or acc[dst] = 0 with ``reset``."""

    opcode: ClassVar[Opcode] = Opcode.GEMM
    wgt_factor_out: int = 0
    wgt_factor_in: int = 0


@dataclass(frozen=True, kw_only=True)
class AluInsn(_Loops):
    """acc[dst] = acc[dst] op (imm if use_imm else acc[src]); ``imm`` is signed, 16 bits."""

    opcode: ClassVar[Opcode] = Opcode.ALU
    alu_opcode: AluOp
    use_imm: bool = False
    imm: int = 0


@dataclass(frozen=True, kw_only=True)
class FinishInsn(_Flags):
    """The end of the program: COMPUTE raises its done flag."""

    opcode: ClassVar[Opcode] = Opcode.FINISH


Insn = MemInsn | GemmInsn | AluInsn | FinishInsn

_LAYOUT: dict[Opcode, tuple[type[Any], fields.Layout]] = {
    Opcode.LOAD: (MemInsn, fields.MEM),
    Opcode.STORE: (MemInsn, fields.MEM),
    Opcode.GEMM: (GemmInsn, fields.GEMM),
    Opcode.ALU: (AluInsn, fields.ALU),
    Opcode.FINISH: (FinishInsn, fields.FINISH),
}
_CONVERT: dict[str, type[Any]] = {
    "opcode": Opcode,
    "memory_type": MemType,
    "alu_opcode": AluOp,
    **dict.fromkeys(("pop_prev", "pop_next", "push_prev", "push_next", "reset", "use_imm"), bool),
}


def encode(spec: VtaSpec, insns: Iterable[Insn]) -> bytes:
    """16 bytes an instruction. Raises ProgramError for a value that its field cannot hold."""
    every = list(insns)
    places = {code: _limited(spec, code) for code in {insn.opcode for insn in every}}
    return b"".join(
        _encode_one(places[insn.opcode], number, insn) for number, insn in enumerate(every)
    )


@cache
def _placed(spec: VtaSpec, opcode: Opcode) -> tuple[fields.Placed, ...]:
    return fields.bit_positions(opcode.name, _LAYOUT[opcode][1], spec, 2, 64)


Limited = tuple[fields.Placed, int, int]  # with the lowest and the highest value


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
    """Field name -> one value an instruction, 0 where the instruction has no such field.

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
    """The instructions of ``stream``. Raises ProgramError if it is truncated or not VTA's."""
    columns = {name: values.tolist() for name, values in decode_columns(spec, stream).items()}
    return [_insn(number, code, columns) for number, code in enumerate(columns["opcode"])]


def _insn(number: int, code: int, columns: dict[str, list[int]]) -> Insn:
    kind, layout = _LAYOUT[Opcode(code)]
    names = [f.name for f in layout if f.name != "opcode" or kind is MemInsn]
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
