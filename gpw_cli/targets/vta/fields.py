"""Bit layouts of VTA's instructions and micro-ops, as data.

Source: VTA's ``include/vta/hw_spec.h``. A field's width is a number of bits or the name of the
``VtaSpec`` attribute that holds it; fields follow one another from bit 0 upwards, and none may
straddle the 64-bit words of an instruction.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """One field: ``bits`` wide (or as wide as the spec's attribute of that name)."""

    name: str
    bits: int | str
    signed: bool = False

    def width(self, spec: object) -> int:
        """The width in bits under ``spec``."""
        return self.bits if isinstance(self.bits, int) else int(getattr(spec, self.bits))


Word = tuple[Field, ...]

_HEADER: Word = (
    Field("opcode", 3),
    Field("pop_prev", 1),
    Field("pop_next", 1),
    Field("push_prev", 1),
    Field("push_next", 1),
)
_LOOPS: Word = (
    Field("reset", 1),
    Field("uop_bgn", "log_uop_depth"),
    Field("uop_end", "uop_end_bits"),
    Field("iter_out", 14),
    Field("iter_in", 14),
)

MEM: tuple[Word, Word] = (
    (*_HEADER, Field("memory_type", 3), Field("sram_base", 16), Field("dram_base", 32)),
    (
        Field("y_size", 16),
        Field("x_size", 16),
        Field("x_stride", 16),
        Field("y_pad_0", 4),
        Field("y_pad_1", 4),
        Field("x_pad_0", 4),
        Field("x_pad_1", 4),
    ),
)
GEMM: tuple[Word, Word] = (
    (*_HEADER, *_LOOPS),
    (
        Field("dst_factor_out", "log_acc_depth"),
        Field("dst_factor_in", "log_acc_depth"),
        Field("src_factor_out", "log_inp_depth"),
        Field("src_factor_in", "log_inp_depth"),
        Field("wgt_factor_out", "log_wgt_depth"),
        Field("wgt_factor_in", "log_wgt_depth"),
    ),
)
ALU: tuple[Word, Word] = (
    (*_HEADER, *_LOOPS),
    (
        Field("dst_factor_out", "log_acc_depth"),
        Field("dst_factor_in", "log_acc_depth"),
        Field("src_factor_out", "log_acc_depth"),
        Field("src_factor_in", "log_acc_depth"),
        Field("alu_opcode", 3),
        Field("use_imm", 1),
        Field("imm", 16, signed=True),
    ),
)
FINISH: tuple[Word, Word] = (_HEADER, ())
UOP: Word = (
    Field("dst", "log_acc_depth"),
    Field("src", "log_src_depth"),
    Field("wgt", "log_wgt_depth"),
)

#: (what, its words, bits a word): everything a geometry has to fit.
ENCODINGS: tuple[tuple[str, tuple[Word, ...], int], ...] = (
    ("micro-op", (UOP,), 32),
    ("LOAD/STORE", MEM, 64),
    ("GEMM", GEMM, 64),
    ("ALU", ALU, 64),
)
