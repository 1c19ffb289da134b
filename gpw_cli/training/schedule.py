"""Learning-rate schedules as functions of the optimizer step."""

from __future__ import annotations

from gpw_cli.config.recipe import LrSchedule, Recipe


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
