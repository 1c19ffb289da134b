"""What a stage is about to do, in a few words for whoever waits.

purpose("finetune", config)     # "resnet20 on cifar10: 10 epochs, recipe restart"

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gpw_cli.config.recipe import Recipe
from gpw_cli.config.schema import Config
from gpw_cli.pruning.allocation import Scope
from gpw_cli.stages.inputs import weights_file


def purpose(stage: str, config: Config) -> str:
    """The network, its data set, and what ``stage`` does with it.

    Empty where it only reads weights: that takes a second, and a file that is refused is one line.
    """
    network = Path(config.model.name).name  # FILE.py:NAME
    text = PURPOSES[stage](config)
    return f"{network} on {config.data.name}: {text}" if text else ""


def _trained(recipe: Recipe, epochs: int) -> str:
    return f"{epochs} epoch{'' if epochs == 1 else 's'}, recipe {recipe.name}"


def _pretrain(config: Config) -> str:
    if weights_file(config) is not None:
        return ""
    return _trained(config.pretrain.train, config.pretrain.train.epochs)


def _prune(config: Config) -> str:
    pruning = config.pruning
    if pruning.scope is not Scope.cycles:
        asked = f"{100 * pruning.sparsity:.4g} % in scope {pruning.scope.value}"
    elif pruning.budget:
        asked = f"at most {pruning.budget:,} cycles of {config.target.name}"
    else:
        asked = f"at most {pruning.budget_ms:g} ms of {config.target.name}"
    return f"{pruning.scheme.value}, {asked}, criterion {pruning.criterion.value}"


def _finetune(config: Config) -> str:
    own = config.finetune
    text = _trained(config.pretrain.train, own.rewind) if own.rewind else ""
    text = text or _trained(own.train, own.train.epochs)
    text += ", as integers" if own.quantized else ""
    return text + (f", then {own.shared.bits}-bit shared values" if own.shared.bits else "")


def _quantize(config: Config) -> str:
    own = config.quantizer
    return f"{own.weight_bits}-bit weights, {own.act_bits}-bit activations, quantizer {own.name}"


def _fuse(config: Config) -> str:
    return f"fusion {config.quantizer.fusion.value}"


def _simulate(config: Config) -> str:
    count = config.simulate.images
    return f"cycles of {config.target.name}, {count or 'all'} test images"


PURPOSES: Mapping[str, Callable[[Config], str]] = {
    "pretrain": _pretrain,
    "prune": _prune,
    "finetune": _finetune,
    "quantize": _quantize,
    "fuse": _fuse,
    "simulate": _simulate,
}
