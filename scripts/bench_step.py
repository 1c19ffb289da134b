"""Profile of a training step, and the effect of each optimisation.

    python scripts/bench_step.py                    # ResNet-20, batch 128, all threads
    python scripts/bench_step.py --compile          # also torch.compile, with its start-up

Images are random, since speed does not depend on them. Variants alternate from round to round, so
that other load on the machine affects all of them; the median round is reported. The profile sums
the time of operators by kind and compares the GMAC/s of convolutions with a matrix product.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from gpw_cli.config.compose import compose
from gpw_cli.config.recipe import Precision, Recipe
from gpw_cli.data.images import Images, Split
from gpw_cli.models.cifar_resnet import cifar_resnet
from gpw_cli.training.loop import FitOptions, TrainingRun, resolved_precision

FORWARD_GMAC = 40.8e-3  # per 32x32 image
CPU = torch.device("cpu")
KINDS = {  # kind: parts of operator names, first match wins
    "convolution backward": ("convolution_backward",),
    "convolution forward": ("convolution", "addmm"),
    "batch norm": ("batch_norm",),
    "ReLU and additions": ("relu", "clamp_min", "threshold", "aten::add"),
    "optimizer": ("_foreach", "aten::mul_"),
    "copies and casts": ("copy", "empty", "resize", "zero", "fill", "contiguous", "clone"),
    "augmentation": ("index", "gather", "flip", "take", "where"),
}


def random_images(steps: int, size: int) -> Images:
    stream = torch.Generator().manual_seed(0)
    count = steps * size
    images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=stream)
    split = Split(images, torch.randint(0, 10, (count,), generator=stream))
    half = (0.5, 0.5, 0.5)
    return Images("random", split, split, tuple("0123456789"), half, half, "")


def run_of(data: Images, recipe: Recipe, *, layout: bool = True) -> TrainingRun:
    """A run of ResNet-20; ``layout`` False: images and weights stay NCHW."""
    torch.manual_seed(0)
    run = TrainingRun(cifar_resnet(20, 10), data, recipe, FitOptions("bench", 0, CPU), {})
    if not layout:
        run.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        run.model.register_forward_pre_hook(lambda _, args: (args[0].contiguous(),))
    return run


def compiled(data: Images, recipe: Recipe) -> TrainingRun:
    run = run_of(data, recipe)
    run.model = torch.compile(run.model)
    start = time.perf_counter()
    run.train_epoch(0)
    print(
        f"torch.compile: the first {len(data.train) // recipe.batch_size} steps with start-up "
        f"{time.perf_counter() - start:.1f} s"
    )
    return run


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def product_gmacs(dtype: torch.dtype) -> float:
    """GMAC/s of a 2048-cubed matrix product, the best of five."""
    a = torch.randn(2048, 2048).to(dtype)
    return 2048**3 / min(seconds(lambda: a @ a) for _ in range(5)) / 1e9


def kind_of(operator: str) -> str:
    found = (kind for kind, parts in KINDS.items() if any(part in operator for part in parts))
    return next(found, "other operators")


def show_profile(run: TrainingRun, images_seen: int) -> None:
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        whole = seconds(lambda: run.train_epoch(1))
    times: dict[str, float] = dict.fromkeys([*KINDS, "other operators"], 0.0)
    for event in measured.key_averages():
        times[kind_of(event.key)] += event.self_cpu_time_total * 1e-6
    times["outside operators"] = max(0.0, whole - sum(times.values()))
    for kind, spent in sorted(times.items(), key=lambda pair: -pair[1]):
        print(f"  {kind:22} {100 * spent / whole:5.1f} %")
    for kind, passes in (("forward", 1), ("backward", 2)):
        rate = passes * images_seen * FORWARD_GMAC / times[f"convolution {kind}"]
        print(f"  convolutions {kind}: {rate:.0f} GMAC/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too")
    args = parser.parse_args()
    recipe = replace(compose(["train=fast"]).pretrain.train, batch_size=args.batch)
    data, half = (
        random_images(args.steps, args.batch),
        random_images(args.steps // 2, 2 * args.batch),
    )
    fp32 = replace(recipe, precision=Precision.fp32)
    variants = {
        "as it is": run_of(data, recipe),
        "fp32": run_of(data, fp32),
        "NCHW": run_of(data, recipe, layout=False),
        "fp32, NCHW": run_of(data, fp32, layout=False),
        "twice the batch": run_of(half, replace(recipe, batch_size=2 * args.batch)),
    }
    if args.compile:
        variants["torch.compile"] = compiled(data, recipe)
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(args.rounds + 1):
        for name, run in variants.items():
            spent = seconds(partial(run.train_epoch, number))
            found[name] += [spent] if number else []  # the first round warms up
    seen = args.steps * args.batch
    print(
        f"{torch.get_num_threads()} threads, {resolved_precision(recipe, CPU)}, batch {args.batch}"
    )
    base = statistics.median(found["as it is"])
    for name, times in found.items():
        middle = statistics.median(times)
        rate = 3 * seen * FORWARD_GMAC / middle
        print(
            f"{name:16} {1000 * middle / args.steps:6.1f} ms a step of {args.batch} images, "
            f"{rate:4.0f} GMAC/s, {middle / base:.2f} times the time"
        )
    for dtype in (torch.bfloat16, torch.float32):
        print(f"matrix product in {dtype}: {product_gmacs(dtype):.0f} GMAC/s")
    print("profile of a step as it is:")
    show_profile(variants["as it is"], seen)


if __name__ == "__main__":
    main()
