"""Ranges and combinations of values that types cannot say, a line for each that is wrong.

    problems(config)      # ["sparsity=1.2 is outside [0, 1): try sparsity=0.7", ...]

What would have no effect is wrong too: a budget without scope ``cycles``, say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from gpw_cli.config import recipe
from gpw_cli.config.schema import (
    Config,
    DistillConfig,
    FinetuneConfig,
    PruningConfig,
)
from gpw_cli.errors import UsageError
from gpw_cli.models.inputs import check_widths
from gpw_cli.pruning.allocation import Scope
from gpw_cli.pruning.groups import Scheme
from gpw_cli.tracking import registry


def problems(config: Config) -> Iterator[str]:
    """What is wrong with the values of ``config``."""
    yield from _pruning(config.pruning)
    yield from recipe.problems(config.pretrain.train, "pretrain.train")
    yield from recipe.problems(config.finetune.train, "finetune.train")
    yield from _distillation(config.pretrain.distill, "pretrain.distill")
    yield from _distillation(config.finetune.distill, "finetune.distill")
    if config.pretrain.distill.teacher == "dense":
        yield (
            "pretrain.distill.teacher=dense: there is no network before pre-training; name a "
            "network with shipped weights or a file, or use finetune.distill.teacher=dense"
        )
    yield from _finetuning(config)
    yield from _data(config)
    yield from _model(config)
    if config.simulate.images < 0:
        yield f"simulate.images={config.simulate.images} must be at least 0 (0: all)"
    if config.runtime.threads < 0:
        yield f"runtime.threads={config.runtime.threads} must be at least 0 (0: automatic)"
    yield from registry.problems(config.runtime.trackers, config.runtime.tracking)


def _pruning(pruning: PruningConfig) -> Iterator[str]:
    if not 0 <= pruning.sparsity < 1:
        yield f"sparsity={pruning.sparsity:g} is outside [0, 1): try sparsity=0.7"
    if pruning.budget < 0:
        yield f"pruning.budget={pruning.budget} must be at least 0 cycles"
    if not 0 <= pruning.budget_ms < math.inf:
        yield f"pruning.budget_ms={pruning.budget_ms} must be at least 0 and finite"
    if not 0 <= pruning.margin < 0.5:
        yield f"pruning.margin={pruning.margin} must be at least 0 and below 0.5"
    budgets = (pruning.budget > 0) + (pruning.budget_ms > 0)
    cycles = pruning.scope is Scope.cycles and pruning.scheme is not Scheme.dense
    if cycles and budgets != 1:
        yield "scope=cycles needs one of pruning.budget=72000 (cycles) and pruning.budget_ms=0.72"
    if pruning.branches and pruning.scope is not Scope.cycles:
        yield f"pruning.branches needs scope=cycles, not scope={pruning.scope.value}"
    if budgets and pruning.scope is not Scope.cycles:
        yield f"a budget needs scope=cycles; scope={pruning.scope.value} goes by sparsity"
    if pruning.scheme.sets is not None and pruning.scope is not Scope.layer:
        yield f"scheme={pruning.scheme.value} needs scope=layer, not {pruning.scope.value}"
    if pruning.gradient_batches < 1:
        yield f"pruning.gradient_batches={pruning.gradient_batches} must be at least 1"


def _distillation(distill: DistillConfig, name: str) -> Iterator[str]:
    if not 0 < distill.temperature <= 1000:
        yield f"{name}.temperature={distill.temperature} must be above 0 and at most 1000"
    if not 0 <= distill.weight <= 1:
        yield f"{name}.weight={distill.weight} must be between 0 and 1"


def _finetuning(config: Config) -> Iterator[str]:
    own: FinetuneConfig = config.finetune
    if not 0 <= own.rewind <= config.pretrain.train.epochs:
        yield (
            f"finetune.rewind={own.rewind} must be between 0 and "
            f"pretrain.train.epochs={config.pretrain.train.epochs}"
        )

    steps, epochs = own.gradual.steps, own.gradual.epochs
    most = own.rewind or own.train.epochs
    if steps < 0 or epochs < 0 or bool(steps) != bool(epochs) or not steps <= epochs <= most:
        yield (
            f"finetune.gradual.steps={steps} with finetune.gradual.epochs={epochs}: expected 0 and "
            f"0, or at most one step an epoch within the {most} epochs of fine-tuning"
        )


def _data(config: Config) -> Iterator[str]:
    for name, own in (("size", config.data.size), ("channels", config.data.channels)):
        if own < 0:
            yield f"data.{name}={own} must be at least 0 (0: what the network takes)"
    if config.data.validation < 0:
        yield f"data.validation={config.data.validation} must be at least 0 (0: no split)"


def _model(config: Config) -> Iterator[str]:
    if config.model.shortcut not in ("A", "B"):
        yield f"model.shortcut={config.model.shortcut}: expected A or B"
    try:
        check_widths(config.model.name, config.model.widths)
    except UsageError as error:
        yield str(error)
