"""``--jobs``: a number, or the split of the cores that trains fastest, by measurement.

    fastest_jobs(points, print)
    # jobs auto: 1 x 2 threads 14.2 steps/s, 2 x 1 threads 15.0 steps/s: --jobs 2

The measurement runs training steps of the sweep's network, at its batch size and on random images,
in 1, 2, 4, ... processes at the same time. It stops when more processes are not faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING

from gpw_cli.config.recipe import Recipe
from gpw_cli.config.schema import Config
from gpw_cli.errors import UsageError
from gpw_cli.stages.inputs import image_shape, weights_file
from gpw_cli.stages.services import Silent, open_services, thread_count, usable_cores
from gpw_cli.store.store import Store
from gpw_cli.sweep.plan import Point
from gpw_cli.sweep.spawn import CONTEXT, spawned

if TYPE_CHECKING:
    from gpw_cli.data.images import Images
    from gpw_cli.training.loop import TrainingRun

SECONDS = 2.5  # of training steps for each split
BUDGET = 16.0  # seconds for all splits; the first two are always measured
PATIENCE = 30.0  # seconds for the slowest process of a split to be ready


@dataclass(frozen=True)
class Training:
    """The training to measure: a recipe, and a configuration with its network."""

    config: Config
    recipe: Recipe


def parse_jobs(text: str) -> int | None:
    """The number of ``--jobs``; None for ``auto``. Raises UsageError for anything else."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UsageError(f"--jobs {text}: expected a number of processes from 1 on, or auto")
    return int(text)


def fastest_jobs(points: Sequence[Point], say: Callable[[str], None]) -> int:
    """The fastest number of processes for ``points``; reports the measurement in one line."""
    most = min(len(usable_cores()), len(points))
    if most == 1:
        why = "one run" if len(points) == 1 else "one core"
        say(f"jobs auto: {why}: --jobs 1")
        return 1
    training = _training(points)
    if training is None:  # quantizing and simulating use one core each
        say(f"jobs auto: nothing to train: --jobs {most}")
        return most
    rates = _measured(training, most)
    best = max(rates, key=lambda jobs: rates[jobs])
    threads = {jobs: thread_count(training.config.runtime, jobs) for jobs in rates}
    tried = [f"{n} x {threads[n]} threads {rate:.1f} steps/s" for n, rate in rates.items()]
    say(f"jobs auto: {', '.join(tried)}: --jobs {best}")
    return best


def _training(points: Sequence[Point]) -> Training | None:
    """The training to measure: a missing fine-tuning, else a missing pre-training, else None."""
    store = Store(Path(points[0].config.runtime.root) / "store")
    for stage in ("finetune", "pretrain"):
        for point in points:
            if stage == "pretrain" and weights_file(point.config) is not None:
                continue
            steps = [step for step in point.steps if step.stage.name == stage]
            if steps and store.find(stage, steps[0].key, steps[0].parent) is None:
                part = point.config.finetune if stage == "finetune" else point.config.pretrain
                if part.train.epochs:
                    return Training(point.config, part.train)
    return None


def _measured(training: Training, most: int) -> dict[int, float]:
    rates: dict[int, float] = {}
    started = time.monotonic()
    for jobs in _doubled(most):
        began = time.monotonic()
        rates[jobs] = _steps_per_second(training, jobs)
        now = time.monotonic()
        late = len(rates) > 1 and 2 * now - began - started > BUDGET
        if late or rates[jobs] < max(rates.values()):
            break
    return rates


def _doubled(most: int) -> Iterator[int]:
    jobs = 1
    while jobs < most:
        yield jobs
        jobs *= 2
    yield most


def _steps_per_second(training: Training, jobs: int) -> float:
    """Training steps per second of ``jobs`` processes in total; 0 if one of them cannot run."""
    barrier = CONTEXT.Barrier(jobs)
    try:
        with spawned(_step, [(training, jobs, SECONDS, barrier)] * jobs) as helpers:
            rates: list[float] = [helper.pipe.recv() for helper in helpers]
    except EOFError:  # most likely out of memory
        return 0.0
    return sum(rates)


def _step(
    training: Training, jobs: int, seconds: float, barrier: Barrier, pipe: Connection
) -> None:
    """One process: train on random images at the same time as the others; send steps/s."""
    try:
        run = _prepared(training, jobs)
        run.train_epoch(0)  # one step
        barrier.wait(PATIENCE)
    except Exception:  # the sweep itself will report the error
        barrier.abort()
        return
    steps, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        run.train_epoch(0)
        steps += 1
    pipe.send(steps / passed)


def _prepared(training: Training, jobs: int) -> TrainingRun:
    import torch

    from gpw_cli.stages.network import fresh_network
    from gpw_cli.training.loop import FitOptions, TrainingRun

    config = training.config
    device = open_services(config, Silent(), jobs).device()
    images = _random_images(config, training.recipe.batch_size)
    torch.manual_seed(0)
    model, _ = fresh_network(config, len(images.classes), images.shape[0])
    recipe = replace(training.recipe, lr=1e-6)  # random labels must not diverge
    return TrainingRun(model, images, recipe, FitOptions("measure", 0, device), {})


def _random_images(config: Config, count: int) -> Images:
    import torch

    from gpw_cli.data.images import Images, Split

    channels, size = image_shape(config)
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, size, size, channels), dtype=torch.uint8, generator=stream)
    split = Split(images, torch.randint(10, (count,), generator=stream))
    classes = tuple(str(label) for label in range(10))
    return Images("random", split, split, classes, (0.5,) * channels, (0.25,) * channels, "")
