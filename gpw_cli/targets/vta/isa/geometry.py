"""The geometry of one VTA: block sizes, scratchpads, and what its shell can do.

    spec = spec_of(load_target("vta", VtaConfig))             # conf/target/vta.yaml
    spec = replace(spec, log_block_in=5, log_block_out=5)     # 32 x 32 tiles

Source: VTA's ``config/*.json`` and ``include/vta/hw_spec.h``. Sizes are in log2 bytes, widths in
log2 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.isa.fields import ENCODINGS, MEM, bit_positions, limits

UOP_BYTES = 4
INSN_BYTES = 16
_MAX_UOPS = 2048  # size of the RTL's micro-op scratchpad, whatever the JSON says
#: Shells built from hardware/xilinx/src/vta.cc, which keeps 5 signed bits of a shift's amount.
_HLS_TARGETS = ("pynq", "ultra96", "zcu104")
_WIDTHS = {"log_inp_width": 3, "log_wgt_width": 3, "log_acc_width": 5}
_BUFFERS = ("uop", "inp", "wgt", "acc")


@dataclass(frozen=True)
class VtaSpec:
    """One VTA: each cycle multiplies int8 [batch, block_in] by int8 [block_out, block_in].

    ``mul`` and ``acc_8bit``: whether the shell's ALU has MUL and its LOAD has ACC_8BIT (most have
    neither). Raises UnsupportedError, naming the field, for a geometry that the instructions cannot
    express.
    """

    target: str
    hw_ver: str
    log_inp_width: int
    log_wgt_width: int
    log_acc_width: int
    log_batch: int
    log_block_in: int
    log_block_out: int
    log_uop_buff_size: int
    log_inp_buff_size: int
    log_wgt_buff_size: int
    log_acc_buff_size: int
    mul: bool
    acc_8bit: bool

    def __post_init__(self) -> None:
        for name, only in _WIDTHS.items():
            if getattr(self, name) != only:
                raise UnsupportedError(
                    f"VTA geometry: {name.upper()}={getattr(self, name)}, only {only} is supported"
                )
        for buffer in _BUFFERS:
            self._check_buffer(buffer)
        for what, layout, words, bits in ENCODINGS:
            bit_positions(what, layout, self, words, bits)

    def _check_buffer(self, buffer: str) -> None:
        size = getattr(self, f"log_{buffer}_buff_size")
        elem = getattr(self, f"{buffer}_elem_bytes")
        key = f"LOG_{buffer.upper()}_BUFF_SIZE={size}"
        if (1 << size) < elem:
            raise UnsupportedError(
                f"VTA geometry: {key} is {1 << size} bytes and cannot hold one {buffer} element "
                f"of {elem} bytes"
            )
        most = limits(MEM, "sram_base")[1] + 1
        if ((1 << size) // elem) > most:
            raise UnsupportedError(
                f"VTA geometry: {key} is {(1 << size) // elem} elements, more than the "
                f"{most.bit_length() - 1}-bit field sram_base can address"
            )

    @property
    def batch(self) -> int:
        """Rows of one input, accumulator or output element."""
        return 1 << self.log_batch

    @property
    def block_in(self) -> int:
        """Input channels of one weight tile."""
        return 1 << self.log_block_in

    @property
    def block_out(self) -> int:
        """Output channels of one weight tile."""
        return 1 << self.log_block_out

    @property
    def tile(self) -> tuple[int, int]:
        """(block_out, block_in): the weight tile of one GEMM micro-op."""
        return self.block_out, self.block_in

    @property
    def shift_range(self) -> tuple[int, int]:
        """The smallest and largest immediate of a SHR; a negative one shifts left.

        Between accumulators the RTL (``core/TensorAlu.scala``) shifts right by the low 5 bits and
        never left, so there only amounts from 0 to the largest mean the same on every shell.
        """
        return (-16, 15) if self.target in _HLS_TARGETS else (-31, 31)

    @property
    def uop_elem_bytes(self) -> int:
        """Bytes of one micro-op."""
        return UOP_BYTES

    @property
    def inp_elem_bytes(self) -> int:
        """Bytes of one input element, int8 [batch, block_in]."""
        return self.batch * self.block_in

    @property
    def wgt_elem_bytes(self) -> int:
        """Bytes of one weight element, int8 [block_out, block_in]."""
        return self.block_out * self.block_in

    @property
    def acc_elem_bytes(self) -> int:
        """Bytes of one accumulator element, int32 [batch, block_out]."""
        return 4 * self.batch * self.block_out

    @property
    def out_elem_bytes(self) -> int:
        """Bytes of one output element, int8 [batch, block_out]."""
        return self.batch * self.block_out

    @property
    def log_uop_depth(self) -> int:
        """log2 of ``uop_depth``."""
        return self.log_uop_buff_size - 2

    @property
    def log_inp_depth(self) -> int:
        """log2 of ``inp_depth``."""
        return self.log_inp_buff_size - self.log_batch - self.log_block_in

    @property
    def log_wgt_depth(self) -> int:
        """log2 of ``wgt_depth``."""
        return self.log_wgt_buff_size - self.log_block_out - self.log_block_in

    @property
    def log_acc_depth(self) -> int:
        """log2 of ``acc_depth``."""
        return self.log_acc_buff_size - 2 - self.log_batch - self.log_block_out

    @property
    def log_src_depth(self) -> int:
        """Width of a micro-op's src: an input element (GEMM) or an accumulator (ALU)."""
        return max(self.log_acc_depth, self.log_inp_depth)

    @property
    def uop_end_bits(self) -> int:
        """Width of uop_end, which may equal the depth."""
        return self.log_uop_depth + 1

    @property
    def uop_depth(self) -> int:
        """Micro-ops that the scratchpad holds according to the JSON; programs use ``uop_limit``."""
        return 1 << self.log_uop_depth

    @property
    def uop_limit(self) -> int:
        """Micro-ops that a program may use: no shell's RTL holds more than 2048."""
        return min(self.uop_depth, _MAX_UOPS)

    @property
    def inp_depth(self) -> int:
        """Elements of the input scratchpad."""
        return 1 << self.log_inp_depth

    @property
    def wgt_depth(self) -> int:
        """Elements of the weight scratchpad."""
        return 1 << self.log_wgt_depth

    @property
    def acc_depth(self) -> int:
        """Elements of the accumulator scratchpad."""
        return 1 << self.log_acc_depth
