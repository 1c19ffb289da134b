"""Checks of ranges and combinations of values that types cannot express.

    problems(config)      # ["sparsity=1.2 is outside [0, 1): try sparsity=0.7", ...]

Settings without effect are refused too, such as a budget without scope ``cycles``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from gpw_cli.config import recipe
from gpw_cli.config.schema import (
    Config,
    DistillConfig,
    FinetuneConfig,
    PruningConfig,
    RuntimeConfig,
)
from gpw_cli.errors import UsageError
from gpw_cli.models.inputs import check_widths, cifar_depth, model_input
from gpw_cli.models.own import check_args
from gpw_cli.pruning.allocation import Scope
from gpw_cli.pruning.groups import Scheme
from gpw_cli.tracking import registry

MAX_TILE = 4096  # weights
MAX_IMAGE_SIZE = 4096  # pixels
MAX_THREADS = 4096


def problems(config: Config, given: Collection[str] = ()) -> Iterator[str]:
    """Errors in the values of ``config``, a line each. ``given``: the keys that were overridden."""
    yield from _pruning(config.pruning, "pruning.sparsity" in given)
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
    for key, count in (("evaluate", config.evaluate.images), ("simulate", config.simulate.images)):
        if count < 0:
            yield f"{key}.images={count} must be at least 0 (0: all)"
    yield from _runtime(config.runtime)
    yield from registry.problems(config.runtime.trackers, config.runtime.tracking)


def _pruning(pruning: PruningConfig, sparsity_given: bool) -> Iterator[str]:
    if not 0 <= pruning.sparsity < 1:
        share = f"50 % is 0.5: try sparsity={pruning.sparsity / 100:g}"
        hint = share if 2 <= pruning.sparsity < 100 else "try sparsity=0.7"
        yield f"sparsity={pruning.sparsity:g} is outside [0, 1): {hint}"
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
    if cycles and (sparsity_given or pruning.sparsity != PruningConfig().sparsity):
        yield (
            f"sparsity={pruning.sparsity:g} has no effect with scope=cycles: the sparsity follows "
            "from the budget; leave it out, or use scope=layer"
        )
    if pruning.branches and pruning.scope is not Scope.cycles:
        yield f"pruning.branches needs scope=cycles, not scope={pruning.scope.value}"
    if budgets and pruning.scope is not Scope.cycles:
        yield f"a budget needs scope=cycles; scope={pruning.scope.value} goes by sparsity"
    _ = pruning.criterion.scoring  # raises for a plug-in that cannot be loaded
    if pruning.scheme.grouping.sets is not None and pruning.scope is not Scope.layer:
        yield f"scheme={pruning.scheme.value} needs scope=layer, not {pruning.scope.value}"
    if pruning.permute and not pruning.scheme.grouping.has_order:
        yield (
            f"pruning.permute=true gathers weights into tiles, and scheme={pruning.scheme.value} "
            "has none: use scheme=gpw, block or vector"
        )
    if pruning.gradient_batches < 1:
        yield f"pruning.gradient_batches={pruning.gradient_batches} must be at least 1"

    for name in ("tile_out", "tile_in"):
        if not 0 <= getattr(pruning, name) <= MAX_TILE:
            value = getattr(pruning, name)
            yield f"pruning.{name}={value} must be between 0 and {MAX_TILE} (0: the target's)"


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
    if own.quantized and config.quantizer.multiplier_bits:
        yield (
            f"finetune.quantized=true trains networks whose rescales only shift; quantizer."
            f"multiplier_bits={config.quantizer.multiplier_bits} must be 0, as in quantizer=best"
        )
    if config.pruning.permute and own.gradual.steps:
        yield (
            "pruning.permute=true permutes before one mask is chosen; finetune.gradual.steps="
            f"{own.gradual.steps} must be 0"
        )
    if own.quantized and own.gradual.steps:
        yield (
            "finetune.quantized=true holds the masks that it is given; finetune.gradual.steps="
            f"{own.gradual.steps} must be 0"
        )
    yield from _sharing(config)
    steps, epochs = own.gradual.steps, own.gradual.epochs
    most = own.rewind or own.train.epochs
    if steps < 0 or epochs < 0 or bool(steps) != bool(epochs) or not steps <= epochs <= most:
        yield (
            f"finetune.gradual.steps={steps} with finetune.gradual.epochs={epochs}: expected 0 and "
            f"0, or at most one step an epoch within the {most} epochs of fine-tuning"
        )


def _sharing(config: Config) -> Iterator[str]:
    own, name = config.finetune.shared, "finetune.shared"
    if own.bits not in (0, *range(2, 9)):
        yield f"{name}.bits={own.bits} must be between 2 and 8, or 0 (0: weights are not shared)"
    if own.epochs < 0:
        yield f"{name}.epochs={own.epochs} must be at least 0"
    if own.epochs > 0 and own.bits == 0:
        yield f"{name}.epochs={own.epochs} trains shared values: say how many, {name}.bits=4"
    if not 0 <= own.lr < math.inf:
        yield f"{name}.lr={own.lr} must be at least 0 and finite"
    if own.bits and config.finetune.quantized:
        yield (
            f"{name}.bits={own.bits} trains shared values as floats: it needs "
            "finetune.quantized=false"
        )
    if own.bits and config.quantizer.per_channel:
        yield (
            f"{name}.bits={own.bits} needs one weight scale a layer, with several the integers are "
            "no longer shared: quantizer.per_channel=false"
        )


def _data(config: Config) -> Iterator[str]:
    data = config.data
    if not 0 <= data.size <= MAX_IMAGE_SIZE:
        yield f"data.size={data.size} must be between 0 and {MAX_IMAGE_SIZE} (0: the network's)"
    if data.channels not in (0, 1, 3):
        yield f"data.channels={data.channels} must be 1, 3 or 0 (0: what the network takes)"
    if data.validation < 0:
        yield f"data.validation={data.validation} must be at least 0 (0: no split)"
    if data.name == "digits" and data.root is not None:
        yield f"data.root={data.root}: digits come with scikit-learn, they lie in no folder"
    yield from _crops(config)


def _crops(config: Config) -> Iterator[str]:
    """Errors in the padding of the random crop, which must be smaller than the image."""
    try:
        size = config.data.size or model_input(config.model.name)[1]
    except UsageError:  # unknown network, reported elsewhere
        return
    for name, train in (("pretrain", config.pretrain.train), ("finetune", config.finetune.train)):
        if train.crop >= size > 0:
            yield f"{name}.train.crop={train.crop} must be below the {size} pixels of an image"


def _runtime(runtime: RuntimeConfig) -> Iterator[str]:
    if not 0 <= runtime.threads <= MAX_THREADS:
        value = runtime.threads
        yield f"runtime.threads={value} must be between 0 and {MAX_THREADS} (0: automatic)"
    for name in ("root", "results"):
        if not getattr(runtime, name).strip():
            yield f"runtime.{name}= is empty: name a folder, or leave it out"
    for name in ("root", "results", "tracking"):
        if "\0" in (getattr(runtime, name) or ""):
            yield f"runtime.{name}: a folder's name holds no NUL"


def _model(config: Config) -> Iterator[str]:
    if config.model.shortcut not in ("A", "B"):
        yield f"model.shortcut={config.model.shortcut}: expected A or B"
    elif config.model.shortcut != "A" and cifar_depth(config.model.name) is None:
        yield (
            f"model.shortcut={config.model.shortcut}: only CIFAR ResNets take it, not "
            f"{config.model.name}"
        )
    try:
        check_args(config.model.name, config.model.args)
        check_widths(config.model.name, config.model.widths)
    except UsageError as error:
        yield str(error)
