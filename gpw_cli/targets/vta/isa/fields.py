"""Bit layouts of VTA's instructions and micro-ops, as data.

Source: VTA's ``include/vta/hw_spec.h``. A field's width is a number of bits or the name of the
``VtaSpec`` attribute that holds it. Fields are packed from bit 0 upwards; a field that would
straddle a word boundary starts the next word, as the C bit-fields of that header do. In the default
geometry word 1 of GEMM and ALU starts at dst_factor_out; with a small micro-op scratchpad it starts
later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gpw_cli.errors import UnsupportedError


@dataclass(frozen=True)
class Field:
    """One field: ``bits`` wide (or as wide as the spec's attribute of that name)."""

    name: str
    bits: int | str
    signed: bool = False

    def width(self, spec: object) -> int:
        """The width in bits under ``spec``."""
        return self.bits if isinstance(self.bits, int) else int(getattr(spec, self.bits))

    def limits(self, spec: object = None) -> tuple[int, int]:
        """The lowest and the highest value; ``spec`` is needed where the width depends on it."""
        width = self.width(spec)
        low = -(1 << (width - 1)) if self.signed else 0
        return low, low + (1 << width) - 1


Layout = tuple[Field, ...]


class Placed(NamedTuple):
    """Where a field lies: bits ``shift`` to ``shift + width - 1`` of word ``word``."""

    field: Field
    word: int
    shift: int
    width: int


def bit_positions(
    what: str, layout: Layout, spec: object, words: int, bits: int
) -> tuple[Placed, ...]:
    """The fields of ``layout`` in ``words`` words of ``bits`` bits.

    Raises UnsupportedError naming the field that does not fit.
    """
    placed, word, shift = [], 0, 0
    for field in layout:
        width = field.width(spec)
        if shift + width > bits:
            word, shift = word + 1, 0
        if word == words or width > bits:
            raise UnsupportedError(
                f"VTA geometry: {what} field {field.name} of {width} bits does not fit "
                f"into {words * bits} bits; shrink the scratchpads or enlarge the blocks"
            )
        placed.append(Placed(field, word, shift, width))
        shift += width
    return tuple(placed)


def limits(layout: Layout, name: str) -> tuple[int, int]:
    """The lowest and the highest value of a field of fixed width."""
    return next(field for field in layout if field.name == name).limits()


_HEADER: Layout = (
    Field("opcode", 3),
    Field("pop_prev", 1),
    Field("pop_next", 1),
    Field("push_prev", 1),
    Field("push_next", 1),
)
_LOOPS: Layout = (
    *_HEADER,
    Field("reset", 1),
    Field("uop_bgn", "log_uop_depth"),
    Field("uop_end", "uop_end_bits"),
    Field("iter_out", 14),
    Field("iter_in", 14),
    Field("dst_factor_out", "log_acc_depth"),
    Field("dst_factor_in", "log_acc_depth"),
)

MEM: Layout = (
    *_HEADER,
    Field("memory_type", 3),
    Field("sram_base", 16),
    Field("dram_base", 32),
    Field("y_size", 16),
    Field("x_size", 16),
    Field("x_stride", 16),
    Field("y_pad_0", 4),
    Field("y_pad_1", 4),
    Field("x_pad_0", 4),
    Field("x_pad_1", 4),
)
GEMM: Layout = (
    *_LOOPS,
    Field("src_factor_out", "log_inp_depth"),
    Field("src_factor_in", "log_inp_depth"),
    Field("wgt_factor_out", "log_wgt_depth"),
    Field("wgt_factor_in", "log_wgt_depth"),
)
ALU: Layout = (
    *_LOOPS,
    Field("src_factor_out", "log_acc_depth"),
    Field("src_factor_in", "log_acc_depth"),
    Field("alu_opcode", 3),
    Field("use_imm", 1),
    Field("imm", 16, signed=True),
)
FINISH: Layout = _HEADER
UOP: Layout = (
    Field("dst", "log_acc_depth"),
    Field("src", "log_src_depth"),
    Field("wgt", "log_wgt_depth"),
)

#: (what, its fields, words, bits a word): the encodings that a geometry has to fit.
ENCODINGS: tuple[tuple[str, Layout, int, int], ...] = (
    ("micro-op", UOP, 1, 32),
    ("LOAD/STORE", MEM, 2, 64),
    ("GEMM", GEMM, 2, 64),
    ("ALU", ALU, 2, 64),
)
