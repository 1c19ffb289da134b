"""Training recipes: all settings that affect the result of a training run.

The shipped recipes are in ``conf/train``. ``paper`` is the schedule of papers/000 (200 epochs,
batch size 128, SGD, weight decay 1e-4), ``fast`` a one-cycle schedule.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class LrSchedule(StrEnum):
    """The learning-rate schedule: decreasing steps, or a single rise and fall."""

    step = "step"
    onecycle = "onecycle"


class Precision(StrEnum):
    """Arithmetic of forward and backward pass; ``auto``: bf16 if the device computes it faster."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Padding(StrEnum):
    """Padding of an image before the random crop."""

    zero = "zero"
    reflect = "reflect"


@dataclass(frozen=True)
class Recipe:
    """A training recipe; part of the key of the stage that uses it."""

    name: str = "fast"  # the option of conf/train that it comes from
    epochs: int = 50  # passes over the training images
    batch_size: int = 128  # images per step
    # step: drops at milestones; onecycle: one rise and fall over the whole run
    schedule: LrSchedule = LrSchedule.onecycle
    lr: float = 0.2  # onecycle: the peak
    warmup: float = 0.2  # onecycle: share of the steps that rise to the peak
    milestones: list[int] = field(default_factory=list)  # step: epochs at which lr drops
    gamma: float = 0.1  # step: factor of each drop
    momentum: float = 0.9  # of SGD, 0 to 1
    nesterov: bool = True  # Nesterov momentum; needs momentum above 0
    weight_decay: float = 5e-4  # factor of the L2 penalty in SGD
    decay_norm: bool = False  # also decay batch-norm parameters and biases
    label_smoothing: float = 0.0  # share of the target spread over all classes, 0 to 1
    # of forward and backward pass; auto: bf16 if the device computes it faster
    precision: Precision = Precision.auto
    crop: int = 4  # random crop after padding by this many pixels; 0: none
    # what the border before the random crop has: zeros or the reflected image
    padding: Padding = Padding.reflect
    flip: bool = True  # mirror training images left to right at random
    eval_every: int = 5  # epochs between evaluations; the last epoch is always evaluated


_RANGES = {  # both ends included; no value may be infinite
    "epochs": (0, math.inf),
    "batch_size": (1, math.inf),
    "lr": (0, math.inf),
    "warmup": (0, 1),
    "gamma": (0, math.inf),
    "momentum": (0, 1),
    "weight_decay": (0, math.inf),
    "label_smoothing": (0, 1),
    "crop": (0, math.inf),
    "eval_every": (1, math.inf),
}


def problems(recipe: Recipe, name: str) -> Iterator[str]:
    """Errors in the values of ``recipe``, a line each; ``name``: the key of the recipe."""
    for field_, (low, high) in _RANGES.items():
        value = getattr(recipe, field_)
        if not low <= value <= high or value == math.inf:  # nan too
            allowed = f"at least {low}" if high == math.inf else f"between {low} and {high}"
            finite = " and finite" if value == math.inf else ""
            yield f"{name}.{field_}={value} must be {allowed}{finite}"
    if (first := min(recipe.milestones, default=1)) < 1:
        yield f"{name}.milestones={recipe.milestones}: {first} is no epoch, they count from 1"
    if recipe.nesterov and recipe.momentum == 0:
        yield f"{name}.momentum=0 needs {name}.nesterov=false"
