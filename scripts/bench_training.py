"""Seconds per epoch of gpw's training loop and of a plain one.

    python scripts/bench_training.py --images 10000 --epochs 3

The plain loop uses torchvision transforms, a DataLoader, fp32 and NCHW. Both train the same
ResNet-20 from the same initial weights with the same schedule, optimizer and batch size on the same
CIFAR-10 images, and are evaluated by the same function. Epochs alternate, so that other load on the
machine affects both. A matrix product in the same run measures the peak of the machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from gpw_cli.config.compose import compose
from gpw_cli.config.recipe import Recipe
from gpw_cli.data.images import Images, Split
from gpw_cli.data.registry import load_images
from gpw_cli.models.cifar_resnet import cifar_resnet
from gpw_cli.models.vision import import_torchvision
from gpw_cli.training.evaluate import accuracy
from gpw_cli.training.loop import FitOptions, TrainingRun, resolved_precision
from gpw_cli.training.optimizer import learning_rate

TRAIN_GMAC = 3 * 40.8e-3  # forward, and gradients of inputs and weights, per 32x32 image


class PlainLoop:
    """A training loop as in a tutorial."""

    def __init__(self, model: nn.Module, data: Images, recipe: Recipe, workers: int) -> None:
        transforms = import_torchvision().transforms
        augment = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(32, padding=recipe.crop, padding_mode=recipe.padding.value),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(data.mean, data.std),
            ]
        )
        images = data.train.images.numpy()
        labels = data.train.labels.tolist()

        class Set(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
            def __len__(self) -> int:
                return len(labels)

            def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
                return augment(images[index]), labels[index]

        self.loader = torch.utils.data.DataLoader(
            Set(), recipe.batch_size, shuffle=True, num_workers=workers, drop_last=True
        )
        self.model, self.recipe = model, recipe
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            recipe.lr,
            recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )

    def train_epoch(self, epoch: int) -> None:
        """Train for one epoch."""
        self.model.train()
        for step, (x, y) in enumerate(self.loader):
            lr = learning_rate(self.recipe, epoch * len(self.loader) + step, len(self.loader))
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()


def matrix_product_gmacs(dtype: torch.dtype) -> float:
    """GMAC/s of a 2048-cubed matrix product, the best of five."""
    a = torch.randn(2048, 2048).to(dtype)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2048**3 / min(times) / 1e9


def timed(epoch: Callable[[int], object], number: int) -> float:
    """Seconds of one epoch."""
    start = time.perf_counter()
    epoch(number)
    return time.perf_counter() - start


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return cifar_resnet(20, 10)


def compare(data: Images, recipe: Recipe, seed: int, workers: int) -> dict[str, list[float]]:
    """Seconds per epoch and final accuracy of both loops."""
    torch.manual_seed(seed)
    ours, plain = network(seed), network(seed)
    options = FitOptions("bench", seed, torch.device("cpu"))
    fast = TrainingRun(ours, data, recipe, options, {})
    slow = PlainLoop(plain, data, recipe, workers)
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for epoch in range(recipe.epochs):
        seconds["ours"].append(timed(fast.train_epoch, epoch))
        seconds["plain"].append(timed(slow.train_epoch, epoch))
        ratio = seconds["plain"][-1] / seconds["ours"][-1]
        print(
            f"epoch {epoch + 1}: ours {seconds['ours'][-1]:.1f} s, "
            f"plain {seconds['plain'][-1]:.1f} s, ratio {ratio:.2f}",
            flush=True,
        )
    found = {name: accuracy(m, data.test, data) for name, m in (("ours", ours), ("plain", plain))}
    print(f"seed {seed}: accuracy ours {found['ours']:.2f} %, plain {found['plain']:.2f} %")
    return seconds | {"accuracy": [found["ours"], found["plain"]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000, help="training images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--workers", type=int, default=2, help="DataLoader workers of the plain loop"
    )
    parser.add_argument("--store", type=Path, default=Path(".gpw"))
    args = parser.parse_args()
    full = load_images("cifar10", None, args.store / "data", 32, 3, lambda *_: None)
    train = Split(full.train.images[: args.images], full.train.labels[: args.images])
    data = replace(full, train=train)
    recipe = replace(compose(["train=fast"]).pretrain.train, epochs=args.epochs)
    precision = resolved_precision(recipe, torch.device("cpu"))
    print(f"{torch.get_num_threads()} threads, ours in {precision}, batch {recipe.batch_size}")
    runs = [compare(data, recipe, seed, args.workers) for seed in range(args.seeds)]
    ours = statistics.median(s for run in runs for s in run["ours"])
    plain = statistics.median(s for run in runs for s in run["plain"])
    print(f"median seconds per epoch: ours {ours:.1f}, plain {plain:.1f}, ratio {plain / ours:.2f}")
    means = [statistics.mean(run["accuracy"][i] for run in runs) for i in (0, 1)]
    print(
        f"after {args.epochs} epochs of {args.images:,} images, n = {len(full.test):,}, "
        f"{args.seeds} seed(s): ours {means[0]:.2f} %, plain {means[1]:.2f} %"
    )
    rate = args.images * TRAIN_GMAC / ours
    for dtype in (torch.bfloat16, torch.float32):
        peak = matrix_product_gmacs(dtype)
        print(f"{dtype}: matrix product {peak:.0f} GMAC/s; ours trains at {rate:.0f} GMAC/s")


if __name__ == "__main__":
    main()
