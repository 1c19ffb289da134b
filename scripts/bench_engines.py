"""Compare the cycles of gpw's engine model with published ones.

    python scripts/bench_engines.py                  # a few seconds on one core

1. NVDLA: frames a second for ResNet-50 at 224x224, table of the primer (nvdla.org, "Example area
   and performance"). The table comes from the spreadsheet beside the RTL
   (perf/NVDLA_OpenSource_Performance.xlsx), which is evaluated again here: Winograd for 3x3
   kernels, no cost for pools, biases and additions, and for each layer the longer of
   multiplications and traffic. The engine model is evaluated with the same rule, over all layers
   and over the layers that the sheet counts correctly (``is_sound``), and with the shipped
   specifications, without Winograd and with all cycles.
2. DNNWeaver v2: compute cycles of its own function (simulator/accelerator.py) for the layers of its
   example, tiny YOLOv2 at 416x416, and the frames a second that its tutorial measured on a board.
3. Simba: images a second for ResNet-50 on a package of 36 chiplets (abstract, MICRO 2019).
4. MAERI: multiplier switches in use for the virtual neuron of nine weights whose configurations
   its repository ships for 32 to 256 switches (configs/rn/*MS_VNSz9.vmh).

All weights are 1, since dense cycles do not depend on their values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpw_cli.config.target import load_target
from gpw_cli.graph.integer import (
    FULL_RANGE,
    IntAvgPool,
    IntConv,
    IntGraph,
    IntInput,
    IntMaxPool,
    IntNode,
    Rescale,
)
from gpw_cli.targets.engine.config import EngineConfig
from gpw_cli.targets.engine.product import products
from gpw_cli.targets.engine.timing import layer_time, product_times
from gpw_cli.targets.engine.work import ConvWork, works_of

# multipliers, K x C, buffer in KB, GB/s at 1 GHz, frames a second: the primer's table. It gives
# only multipliers; K x C is that of the shipped specification with as many multipliers, if any
NVDLA = [
    (2048, (32, 64), 512, 20.0, 269.0),
    (1024, (32, 32), 256, 15.0, 153.0),
    (512, (16, 32), 256, 10.0, 93.0),
    (256, (8, 32), 256, 5.0, 46.0),
    (128, (8, 16), 256, 2.0, 20.0),
    (64, (8, 8), 128, 1.0, 7.3),
    (32, (8, 4), 128, 0.5, 3.6),
]
FREE = 1e12  # a rate that is never a limit
BOARD_MHZ, BOARD_FPS = 150, 12.1  # name of the board's bit file; the tutorial's output
SIMBA_FPS, SIMBA_TOPS = 1988, 128  # abstract of Shao et al., MICRO 2019
SHIPPED = {
    2048: "nvdla_large",
    1024: "nvdla_medium_1024",
    512: "nvdla_medium_512",
    256: "nvdla_small_256",
    64: "nvdla_small",
}
RESNETS = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}


def conv(
    source: IntNode,
    name: str,
    outs: int,
    kernel: int = 3,
    stride: int = 1,
    residual: IntNode | None = None,
    bits: int = 8,
) -> IntConv:
    ins, high, wide = source.shape
    size = [(n + 2 * (kernel // 2) - kernel) // stride + 1 for n in (high, wide)]
    rescale = Rescale(12, True, -128, 127) if bits == 8 else Rescale(0, False, *FULL_RANGE)
    return IntConv(
        name,
        source.name,
        np.ones((outs, ins, kernel, kernel), np.int8),
        np.zeros(outs, np.int32),
        (stride, stride),
        (kernel // 2, kernel // 2),
        None if residual is None else residual.name,
        4,
        True,
        rescale,
        bits,
        (outs, size[0], size[1]),
    )


def graph(nodes: Sequence[IntNode]) -> IntGraph:
    scales = {node.name: 1.0 for node in nodes}
    return IntGraph(tuple(nodes), nodes[-1].name, scales, (0.0,), (1.0,))


def resnet(name: str, *, early: bool = False) -> IntGraph:
    """ResNet-18 or -50 for 224x224; ``early``: -50 with the strides in the first 1x1 (Caffe)."""
    blocks, bottleneck = RESNETS[name]
    nodes: list[IntNode] = [IntInput("input", (3, 224, 224), 1.0)]
    nodes.append(conv(nodes[0], "conv1", 64, 7, 2))
    nodes.append(IntMaxPool("maxpool", "conv1", (3, 3), (2, 2), (1, 1), (64, 56, 56)))
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            steps = (stride, 1) if early else (1, stride)
            nodes += _block(nodes[-1], f"layer{stage + 1}.{block}", 64 << stage, steps, bottleneck)
    channels = nodes[-1].shape[0]
    pool = IntAvgPool(
        "avgpool",
        nodes[-1].name,
        (7, 7),
        (1, 1),
        (0, 0),
        Rescale(6, True, -128, 127),
        (channels, 1, 1),
    )
    return graph([*nodes, pool, conv(pool, "fc", 1000, 1, bits=32)])


def _block(
    source: IntNode, name: str, width: int, steps: tuple[int, int], bottleneck: bool
) -> list[IntNode]:
    """``steps``: strides of the first two convolutions of a bottleneck."""
    stride = steps[0] * steps[1]
    outs = width * 4 if bottleneck else width
    shortcut = source
    nodes: list[IntNode] = []
    if stride != 1 or source.shape[0] != outs:
        shortcut = conv(source, f"{name}.downsample", outs, 1, stride)
        nodes.append(shortcut)
    if bottleneck:
        first = conv(source, f"{name}.conv1", width, 1, steps[0])
        second = conv(first, f"{name}.conv2", width, 3, steps[1])
        return [*nodes, first, second, conv(second, f"{name}.conv3", outs, 1, 1, shortcut)]
    first = conv(source, f"{name}.conv1", width, 3, stride)
    return [*nodes, first, conv(first, f"{name}.conv2", outs, 3, 1, shortcut)]


def cycles(network: IntGraph, cfg: EngineConfig) -> int:
    return sum(layer_time(work, cfg).cycles for work in works_of(network, cfg))


@dataclass(frozen=True)
class Frames:
    """ResNet-50 a second on one configuration; ``sound``: sheet over ours on its sound layers."""

    macs: int
    published: float
    sheet: float
    ours: float
    sound: float
    layers: int
    stock: float | None


def nvdla_frames() -> Iterator[Frames]:
    """As in Caffe, the sheet's network has its strides in the 1x1 convolutions."""
    caffe, torch = resnet("resnet50", early=True), resnet("resnet50")
    base = replace(
        load_target("nvdla_full", EngineConfig),
        memory_atom=16,
        winograd=True,
        weight_compression=False,
        overlaps_layers=True,
        post_rate=FREE,
        add_rate=FREE,
        pool_rate=FREE,
    )
    for macs, (k, c), buffer, gigabytes, published in NVDLA:
        size = {"atomic_k": k, "atomic_c": c, "weight_cycles": k, "shared_buffer": buffer * 1024}
        alike = replace(base, dram_bytes=gigabytes, **size)
        works = [work for work in works_of(caffe, alike) if isinstance(work, ConvWork)]
        sheet = [sheet_cycles(work, macs, buffer, gigabytes) for work in works]
        ours = [ruled_cycles(work, alike) for work in works]
        sound = [index for index, work in enumerate(works) if is_sound(work)]
        yield Frames(
            macs,
            published,
            1e9 / sum(sheet),
            1e9 / sum(ours),
            sum(sheet[i] for i in sound) / sum(ours[i] for i in sound),
            len(sound),
            _stock(torch, macs, gigabytes),
        )


def nvdla() -> None:
    print("\nNVDLA, ResNet-50 at 224x224, int8, 1 GHz: frames a second")
    print("MACs  published  its sheet, again    ours by its rule   its sound layers   stock, ours")
    for row in nvdla_frames():
        stock = "-" if row.stock is None else f"{row.stock:.1f}"
        print(
            f"{row.macs:4} {row.published:10.1f}  {row.sheet:7.1f} "
            f"{_error(row.sheet, row.published)}  {row.ours:9.1f} "
            f"{_error(row.ours, row.published)}  {row.layers:7}: {_error(row.sound, 1)}  "
            f"{stock:>10}"
        )


def _stock(network: IntGraph, macs: int, gigabytes: float) -> float | None:
    """Frames a second of the shipped specification, if there is one, at the table's bandwidth."""
    if macs not in SHIPPED:
        return None
    cfg = replace(
        load_target(SHIPPED[macs], EngineConfig), dram_bytes=gigabytes, skips_zero_tiles=False
    )
    return 1e9 / cycles(network, cfg)


def _error(found: float, published: float) -> str:
    return f"{100 * (found / published - 1):+6.1f} %"


def ruled_cycles(work: ConvWork, cfg: EngineConfig) -> int:
    """Our cycles with the rule of the sheet: Winograd wherever possible."""
    return min(time.cycles for time in product_times(work, products(work, cfg)[-1], cfg))


def is_sound(work: ConvWork) -> bool:
    """Whether the sheet counts this layer of ResNet-50 correctly.

    It multiplies the weights of a strided 1x1 convolution by four (as if its kernel were 2x2),
    gives layer1.0.conv1 256 input channels instead of 64, and pads output channels to multiples of
    128.
    """
    strided = work.kernel == (1, 1) and work.stride != (1, 1)
    return not strided and work.out[0] % 128 == 0


def sheet_cycles(work: ConvWork, macs: int, buffer: int, gigabytes: float) -> float:
    """A layer by the formulas of the sheet "ResNet50", columns X to AS (kilobytes over GB/s)."""
    step, fc = work.stride[0], work.name == "fc"
    ins = 256 if work.name == "layer1.0.conv1" else work.source[0]
    deep = -(-ins * step * step // 16) * 16
    lines, columns = (-(-size // step) for size in work.source[1:])
    high, wide = work.kernel
    kilo = deep * lines * columns / 1024
    window = deep * min(high, lines) * columns / 1024
    weights = deep * -(-high // step) * -(-wide // step) * work.out[0] / 1024
    group = weights * 32 / work.out[0]
    group = buffer / 2 if group >= buffer else group
    gain = 2.25 if work.kernel == (3, 3) else 1.0
    weights *= 16 / 9 if gain > 1 else 1
    if kilo >= weights:
        moved = math.ceil(max(weights / (buffer - window), 1)) * kilo + weights
    else:
        moved = math.ceil(max(kilo / (buffer - group), 1)) * weights + kilo
    channels, out_lines, out_columns = work.stored
    outputs = -(-channels // 16) * 16 * out_lines * out_columns / 1024
    moved += outputs * (2 if work.adds else 1)
    batch = 16 if fc else 1
    outs = -(-work.out[0] * batch // 128) * 128 / batch
    mac = deep * lines * columns * outs * high * wide / step**2 / macs / gain
    return max(mac, moved / gigabytes * 1000)


def dnnweaver_layers() -> Iterator[tuple[str, int, int, int]]:
    """(layer, compute cycles of its function, ours, ours with memory)."""
    cfg = load_target("dnnweaver", EngineConfig)
    for work in works_of(tiny_yolo(), cfg):
        assert isinstance(work, ConvWork)
        time = layer_time(work, cfg)
        yield work.name, dnnweaver_cycles(work, cfg), time.busy["mac"], time.cycles


def dnnweaver() -> None:
    print("\nDNNWeaver v2, tiny YOLOv2 at 416x416, 32 x 32: compute cycles")
    print("layer       its function       ours    error   ours with memory")
    rows = list(dnnweaver_layers())
    totals = ("all", *(sum(row[i] for row in rows) for i in (1, 2, 3)))
    for name, function, ours, whole in [*rows, totals]:
        error = 100 * (ours / function - 1)
        print(f"{name:8} {function:15,} {ours:10,} {error:+6.2f} % {whole:14,}")
    fps = BOARD_MHZ * 1e6 / totals[3]
    print(
        f"on the board at {BOARD_MHZ} MHz, host included: {BOARD_FPS} frames a second; "
        f"ours {fps:.1f}, {100 * (fps / BOARD_FPS - 1):+.1f} %"
    )


def dnnweaver_cycles(work: ConvWork, cfg: EngineConfig) -> int:
    """DNNWeaver's rule: the longest loop is innermost, and each loop takes 2 cycles to start."""
    loops = (
        -(-work.out[0] // cfg.atomic_k),
        -(-work.source[0] // cfg.atomic_c),
        *work.kernel,
        *work.out[1:],
        1,
    )
    total = 1
    for count in sorted(loops, reverse=True):
        total = 2 + count * total
    return total


def tiny_yolo() -> IntGraph:
    """Nine convolutions, a pool behind each of the first five (one of stride 1 is left out)."""
    nodes: list[IntNode] = [IntInput("input", (3, 416, 416), 1.0)]
    for index, width in enumerate((16, 32, 64, 128, 256, 512, 1024, 1024)):
        nodes.append(conv(nodes[-1], f"conv{index}", width))
        if index < 5:
            size = nodes[-1].shape[1] // 2
            window = ((2, 2), (2, 2), (0, 0))
            nodes.append(IntMaxPool(f"pool{index}", nodes[-1].name, *window, (width, size, size)))
    return graph([*nodes, conv(nodes[-1], "conv8", 125, 1, bits=32)])


def simba() -> None:
    """Without memory, because the published number is for weights spread over 36 chiplets."""
    chiplet = load_target("simba", EngineConfig)
    package = replace(chiplet, arrays=36 * chiplet.arrays, dram_bytes=FREE, dram_latency=0)
    megahertz = SIMBA_TOPS * 1e12 / (2 * package.multipliers) / 1e6
    fps = megahertz * 1e6 / cycles(resnet("resnet50"), package)
    print("\nSimba, 36 chiplets, ResNet-50, batch 1: images a second")
    print(
        f"published {SIMBA_FPS}; ours without any communication {fps:,.0f}, "
        f"{100 * (fps / SIMBA_FPS - 1):+.0f} %"
    )


def maeri() -> None:
    print("\nMAERI: multiplier switches in use by virtual neurons of nine weights")
    for switches in (32, 64, 128, 256):
        neurons = switches // 9
        print(f"{switches:4} switches: {neurons:3} neurons, {100 * 9 * neurons / switches:5.1f} %")


if __name__ == "__main__":
    nvdla()
    dnnweaver()
    simba()
    maeri()
