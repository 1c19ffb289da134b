"""What a convolution moves to and from DRAM; a layer is split where the buffers are small.

    for traffic in traffics(work, row_bytes, cfg):      # the ways there are
        traffic.total, traffic.first, traffic.last

Either the weights stay and the input comes once for each part of them, or the input stays and the
weights come once for each part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Int64
from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.engine.config import EngineConfig
from gpw_cli.targets.engine.work import ConvWork, Shape


@dataclass(frozen=True)
class Traffic:
    """Bytes by what is moved; ``first`` before the first product, ``last`` after the last one."""

    weights: int
    inputs: int
    outputs: int
    operands: int
    first: int
    last: int

    @property
    def total(self) -> int:
        """In total."""
        return self.weights + self.inputs + self.outputs + self.operands


def activation_bytes(shape: Shape, cfg: EngineConfig, stored: int = 1) -> int:
    """A tensor in DRAM: channels padded to ``memory_atom``, ``stored`` or more bytes a value."""
    channels = -(-shape[0] // cfg.memory_atom) * cfg.memory_atom
    return channels * shape[1] * shape[2] * max(stored, cfg.value_bytes)


def traffics(work: ConvWork, row_bytes: Int64, cfg: EngineConfig) -> Iterator[Traffic]:
    """The ways to move the layer; at least one."""
    outputs = activation_bytes(work.stored, cfg, work.out_bytes)
    operands = activation_bytes(work.out, cfg) if work.adds else 0
    ways = _shared(work, row_bytes, cfg) if cfg.shared_buffer else _apart(work, row_bytes, cfg)
    for weights, inputs, first, last in ways:
        yield Traffic(weights, inputs, outputs, operands, first, last)


def line_bytes(work: ConvWork, cfg: EngineConfig) -> int:
    """One line of the input in DRAM; the image is not padded where image mode reads it."""
    channels, _, wide = work.source
    if work.image and cfg.image_mode:
        return channels * wide * cfg.value_bytes
    return activation_bytes((channels, 1, wide), cfg)


def least_input(work: ConvWork, cfg: EngineConfig) -> int:
    """Bytes of the input that any kernel reads, each counted once."""
    lines, columns = (
        min(_span(work.out[1 + axis], work, axis), work.out[1 + axis] * work.kernel[axis])
        for axis in (0, 1)
    )
    return lines * columns * (line_bytes(work, cfg) // work.source[2])


Way = tuple[int, int, int, int]  # weights, inputs, first, last


def _shared(work: ConvWork, row_bytes: Int64, cfg: EngineConfig) -> Iterator[Way]:
    """NVDLA's convolution buffer: one part stays, the other slides through what is left of it."""
    line, high = line_bytes(work, cfg), work.source[1]
    size = cfg.shared_buffer
    window = min(line * min(work.kernel[0], high), size // 2)
    group = min(int(row_bytes.max()), size // 2)
    weights, inputs = int(row_bytes.sum()), line * high
    first = window + int(row_bytes[0])
    parts = _parts(row_bytes, size - window)
    yield weights, inputs * parts, first, 0
    lines = max((size - group) // line, 1)
    bands = _bands(work, lines)
    yield weights * len(bands), line * sum(bands), first, 0


def _parts(row_bytes: Int64, size: int) -> int:
    """Number of runs of rows of at most ``size`` bytes each (a single row always fits)."""
    parts, used = 1, 0
    for row in row_bytes.tolist():
        if used and used + row > size:
            parts, used = parts + 1, 0
        used += row
    return parts


def _bands(work: ConvWork, lines: int) -> list[int]:
    """Input lines of each band of output lines; a band reads at most ``lines`` (or a kernel)."""
    if lines >= work.source[1]:
        return [work.source[1]]
    return _spans(max((lines - work.kernel[0]) // work.stride[0] + 1, 1), work, 0)


def _apart(work: ConvWork, row_bytes: Int64, cfg: EngineConfig) -> Iterator[Way]:
    """Three buffers, one half filled while the other is used, for tiles that fit all of them."""
    weights, count, found = int(row_bytes.sum()), 1, False
    while True:
        channels = min(count * cfg.tile[0], work.out[0])
        part = int(np.add.reduceat(row_bytes, np.arange(0, len(row_bytes), count)).max())
        runs = -(-len(row_bytes) // count)
        for tile in _tiles(work, part, channels, cfg):
            found = True
            first = -(-(tile.first + part) // tile.depth)
            last = activation_bytes((channels, *tile.size), cfg, work.out_bytes)
            if tile.depth == 1:
                yield weights, tile.moved * (1 if tile.count == 1 else runs), first, last
                yield weights * (1 if runs == 1 else tile.count), tile.moved, first, last
            else:
                yield weights * tile.count, tile.moved * runs, first, last
        if count >= len(row_bytes):
            break
        count *= 2
    if not found:
        raise UnsupportedError(
            f"{work.name}: no tile of it fits the target's buffers; give it larger ones, "
            f"target.output_buffer={cfg.output_buffer} for one"
        )


@dataclass(frozen=True)
class _Tile:
    """Output lines and columns at a time; input channels in ``depth`` parts, summed on chip.

    ``moved``: input bytes over all ``count`` tiles, the lines that two tiles share counted twice.
    """

    size: tuple[int, int]
    depth: int
    count: int
    moved: int
    first: int


def _tiles(work: ConvWork, part: int, channels: int, cfg: EngineConfig) -> Iterator[_Tile]:
    """The largest tile that fits, for each depth; none if one pixel's outputs do not fit."""
    places = cfg.output_buffer // 2 // (channels * cfg.accumulator_bytes)
    pixel = line_bytes(work, cfg) // work.source[2]
    depth = 1
    while depth < 2 * work.source[0]:
        if part <= cfg.weight_buffer // 2 * depth:
            for high, wide in _sizes(work.out[1], work.out[2]):
                area = _span(high, work, 0) * _span(wide, work, 1) * pixel
                if high * wide <= places and area <= cfg.input_buffer // 2 * depth:
                    spans = [_spans(size, work, axis) for axis, size in enumerate((high, wide))]
                    moved = sum(spans[0]) * sum(spans[1]) * pixel
                    yield _Tile((high, wide), depth, len(spans[0]) * len(spans[1]), moved, area)
                    break
        depth *= 2


def _sizes(high: int, wide: int) -> Iterator[tuple[int, int]]:
    """Whole, then lines halved down to one, then columns."""
    yield high, wide
    while high > 1 or wide > 1:
        high, wide = (-(-high // 2), wide) if high > 1 else (1, -(-wide // 2))
        yield high, wide


def _span(size: int, work: ConvWork, axis: int) -> int:
    """Input lines (axis 0) or columns (1) that ``size`` outputs read."""
    return min((size - 1) * work.stride[axis] + work.kernel[axis], work.source[1 + axis])


def _spans(size: int, work: ConvWork, axis: int) -> list[int]:
    """The same for every tile of ``size`` outputs, the last one smaller."""
    whole, rest = divmod(work.out[1 + axis], size)
    return [_span(n, work, axis) for n in [size] * whole + [rest] * bool(rest)]
