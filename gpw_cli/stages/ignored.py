"""Overrides that would have no effect are refused. Imports no torch, for the sake of sweeps.

refuse_ignored(overrides)          # of weights that are taken as they are
refuse_idle(config, overrides)     # of one run
"""

from __future__ import annotations

from collections.abc import Sequence

from gpw_cli.config.compose import SHORT
from gpw_cli.config.schema import Config
from gpw_cli.errors import UsageError
from gpw_cli.pruning.groups import Scheme
from gpw_cli.stages.inputs import weights_file

SHORT_OF_PRUNING = ("sparsity", "scope", "criterion", "rounding", "scheme", "experiment")


def refuse_ignored(given: Sequence[str], command: str = "--checkpoint") -> None:
    """Raise UsageError for overrides of pruning and training, which would have no effect."""
    for override in given:
        name = override.partition("=")[0].lstrip("+~")
        trains = name.startswith(("pruning", "finetune", "pretrain", "train"))
        if trains or name in (*SHORT_OF_PRUNING, "seed"):
            if override == "scheme=dense":
                continue
            own = "" if name == "pretrain.source" else f" {override}"
            raise UsageError(
                f"'{override}' has no effect on {command}: its weights are taken as they are; "
                f"to prune and fine-tune them use gpw run{own} pretrain.source=FILE"
            )


def refuse_idle(config: Config, given: Sequence[str]) -> None:
    """Raise UsageError for overrides that change nothing in the one run of ``config``.

    These are settings of pruning for a dense network, and settings of pre-training where the
    weights are read. ``train=NAME`` is let through: it is for both trainings.
    """
    for reason in _idle(config, given).values():
        raise UsageError(reason)


def refuse_idle_everywhere(
    runs: Sequence[tuple[Config, Sequence[str]]], given: Sequence[str]
) -> None:
    """``refuse_idle`` for a sweep: its overrides ``given`` that change nothing in any run.

    runs: (configuration, overrides) of each; a run without an override says nothing about it.
    """
    for key in dict.fromkeys(override.partition("=")[0] for override in given):
        reasons: list[str] = []
        for config, overrides in runs:
            own = [text for text in overrides if text.partition("=")[0] == key]
            idle = _idle(config, own)
            if own and not idle:
                break
            reasons += idle.values()
        else:
            if reasons:
                raise UsageError(reasons[0])


def without_idle(config: Config, given: Sequence[str]) -> list[str]:
    """``given`` without the overrides that ``refuse_idle`` refuses."""
    idle = _idle(config, given)
    return [override for override in given if override not in idle]


def _idle(config: Config, given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    dense = config.pruning.scheme is Scheme.dense
    read = weights_file(config) is not None and not config.finetune.rewind
    for override in given:
        name = override.partition("=")[0].lstrip("+~")
        full = SHORT.get(name, (name,))[0]
        if dense and full.startswith("pruning.") and full != "pruning.scheme":
            found[override] = (
                f"{override} has no effect with scheme=dense, which prunes nothing; leave it out, "
                "or use scheme=gpw"
            )
        if read and name.startswith(("pretrain.train", "pretrain.distill")):
            found[override] = (
                f"{override} has no effect: the weights are read, not trained "
                f"(pretrain.source={config.pretrain.source}); pretrain.source=scratch trains them"
            )
    return found
