"""Speed of the functional simulator on ResNet-20, compared with plain matrix products.

    python scripts/bench_simulator.py                       # 2 threads, 2,000 images
    python scripts/bench_simulator.py --threads 1 --images 500 --batch 128

Weights and images are random, since speed does not depend on their values. MAC/s counts the
multiply-accumulates of the network (40.8 M per image), without those that VTA spends on padded
channels. Each round measures the simulator, ``torch._int_mm`` on int8 and an fp32 product of the
same shape in turn; the best round of each is reported. Logits are compared with the integer
reference.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from gpw_cli.config.quantizer import QuantizerConfig
from gpw_cli.config.target import load_target
from gpw_cli.graph.integer import IntConv, IntGraph
from gpw_cli.graph.trace import trace
from gpw_cli.models.cifar_resnet import cifar_resnet
from gpw_cli.quantization.quantize import prepare, quantize_graph
from gpw_cli.quantization.ranges import calibrate
from gpw_cli.quantization.reference import run
from gpw_cli.targets.vta.config import VtaConfig
from gpw_cli.targets.vta.functional.simulator import Simulator
from gpw_cli.targets.vta.target import vta_of

PRODUCT = (65536, 144, 16)  # rows, depth, columns
CHECKED = 64  # images compared with the reference


def resnet20() -> IntGraph:
    torch.manual_seed(0)
    quantizer = QuantizerConfig()
    graph = prepare(trace(cifar_resnet(20, 10).eval(), (3, 32, 32)), quantizer)
    ranges = calibrate(graph, [torch.randn(64, 3, 32, 32)], quantizer)
    return quantize_graph(graph, ranges, quantizer, fused=True)


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def products() -> tuple[Callable[[], object], Callable[[], object]]:
    """An int8 and an fp32 product of the same shape, into allocated memory."""
    rows, depth, columns = PRODUCT
    a = torch.randint(-128, 128, (rows, depth), dtype=torch.int8)
    b = torch.randint(-128, 128, (depth, columns), dtype=torch.int8)
    integers, reals = torch.empty(rows, columns, dtype=torch.int32), torch.empty(rows, columns)
    x, y = a.float(), b.float()
    return lambda: torch._int_mm(a, b, out=integers), lambda: torch.matmul(x, y, out=reals)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    graph = resnet20()
    macs = sum(
        n.weight.size * n.shape[1] * n.shape[2] for n in graph.nodes if isinstance(n, IntConv)
    )
    start = time.perf_counter()
    program = vta_of(load_target("vta", VtaConfig)).compile(graph).program
    compiled = time.perf_counter()
    simulator = Simulator(program, args.batch)
    print(
        f"compile {compiled - start:.2f} s, check and plan {time.perf_counter() - compiled:.2f} s, "
        f"{program.length} instructions, {macs / 1e6:.1f} M MAC an image"
    )
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (args.images, 3, 32, 32)).astype(np.int8)
    equal = np.array_equal(simulator.run(x[:CHECKED]).logits, run(graph, x[:CHECKED]))
    print(f"logits of {CHECKED} images equal to the integer reference: {equal}")
    integer, real = products()
    actions = (lambda: simulator.run(x), integer, real)
    best = [min(times) for times in zip(*rounds(actions, args.rounds), strict=True)]
    speed = macs * args.images / best[0] / 1e9
    int_mm, fp32 = (float(np.prod(PRODUCT)) / time_ / 1e9 for time_ in best[1:])
    print(
        f"{args.threads} threads, {args.images} images, batch {args.batch}: simulator "
        f"{speed:.1f} GMAC/s, _int_mm {int_mm:.0f}, fp32 matmul {fp32:.0f} GMAC/s; "
        f"simulator / _int_mm {speed / int_mm:.2f}, simulator / fp32 {speed / fp32:.2f}"
    )


def rounds(actions: tuple[Callable[[], object], ...], count: int) -> list[list[float]]:
    """Seconds of each action in each of ``count`` rounds, after a warm-up round."""
    return [[seconds(action) for action in actions] for _ in range(count + 1)][1:]


if __name__ == "__main__":
    main()
