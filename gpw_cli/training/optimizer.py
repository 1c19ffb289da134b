"""The optimizer of a recipe, and its learning rate as a function of the step."""

from __future__ import annotations

import torch
from torch import nn

from gpw_cli.config.recipe import LrSchedule, Recipe


def sgd(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD over all parameters; vectors (batch norms, biases) decay if ``recipe.decay_norm``."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in model.parameters():
        (decayed if recipe.decay_norm or parameter.ndim > 1 else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        foreach=True,
    )


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of optimizer step ``step``, counted from 0.

    Schedule ``step``: ``lr`` times ``gamma`` for every milestone epoch that has begun. Schedule
    ``onecycle``: linear from lr/25 to lr over the first ``warmup`` share of all steps, then linear
    towards zero.
    """
    if recipe.schedule is LrSchedule.step:
        epoch = step // steps_per_epoch
        return recipe.lr * recipe.gamma ** sum(epoch >= mark for mark in recipe.milestones)
    total = recipe.epochs * steps_per_epoch
    peak = recipe.warmup * total
    if step < peak:
        return recipe.lr * (0.04 + 0.96 * step / peak)
    return recipe.lr * (total - step) / (total - peak)
