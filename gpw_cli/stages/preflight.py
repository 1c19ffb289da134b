"""Check before training that the network can be traced, quantized and compiled, and that a budget
of cycles can be met.

    preflight([(config, plan(config))], store)      # UnsupportedError lists all that cannot run

The check takes seconds. It is skipped if the trained networks are in the store already. Importing
this imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpw_cli.config.compose import to_plain
from gpw_cli.config.schema import Config
from gpw_cli.errors import UnsupportedError, UsageError
from gpw_cli.pruning.allocation import Scope
from gpw_cli.stages.inputs import image_shape, weights_file
from gpw_cli.stages.pipeline import Step
from gpw_cli.store.store import Store
from gpw_cli.targets.registry import npu_of

if TYPE_CHECKING:
    from torch import nn

    from gpw_cli.graph.integer import IntGraph
    from gpw_cli.stages.costs import NetworkCosts

INTEGER = ("quantize", "fuse", "simulate")  # stages that need the traced network
MANIFEST = "manifest.json"
#: Share of the smallest untrained network's cycles below which a budget is refused before training.
#: A few passes depend on the scales; the smallest ResNet-20 takes 11,467 cycles with random weights
#: of three seeds and with the shipped ones.
CERTAIN = 0.9


@dataclass(frozen=True)
class Wanted:
    """A configuration and the stages to run."""

    config: Config
    steps: Sequence[Step]

    def trains(self, store: Store) -> bool:
        """Whether a trained network is missing in the store."""
        trained = ["finetune"] if weights_file(self.config) else ["pretrain", "finetune"]
        return any(
            step.stage.name in trained
            and not (store.path(step.stage.name, step.key) / MANIFEST).is_file()
            for step in self.steps
        )

    @property
    def limits(self) -> bool:
        """Whether a budget is met after training from scratch; else prune refuses it at once."""
        pruned = any(step.stage.name == "prune" for step in self.steps)
        budget = pruned and self.config.pruning.scope is Scope.cycles
        return budget and weights_file(self.config) is None

    def subject(self) -> dict[str, Any]:
        """The settings that decide whether it compiles; most points of a sweep share them."""
        config = self.config
        return {
            "pruning": to_plain(config.pruning) if self.limits else None,
            "model": to_plain(config.model),
            "data": [config.data.name, config.data.root, *image_shape(config)],
            "quantizer": to_plain(config.quantizer),
            "target": to_plain(config.target),
            "until": self.steps[-1].stage.name,
        }


def preflight(wanted: Iterable[Wanted], store: Store) -> None:
    """Check each distinct combination of network, quantizer, target and budget to be trained.

    Raises UsageError with what is wrong with each: all unsupported operators and where they are
    (UnsupportedError where nothing else is wrong), a budget that cannot be met.
    """
    subjects: dict[str, Wanted] = {}
    for one in wanted:
        needed = one.limits or one.steps[-1].stage.name in INTEGER
        if needed and one.trains(store):
            subjects.setdefault(json.dumps(one.subject(), sort_keys=True), one)
    reports: dict[str, type[UsageError]] = {}
    for one in subjects.values():
        try:
            _check(one)
        except UsageError as error:
            reports[str(error)] = type(error)
    if reports:
        kinds = set(reports.values())
        raise (kinds.pop() if len(kinds) == 1 else UsageError)("\n".join(reports))


def _check(one: Wanted) -> None:
    from gpw_cli.pruning.budget import refusal, smallest
    from gpw_cli.stages.network import is_users, require_outputs
    from gpw_cli.stages.untrained import (
        class_count,
        problem_untrained,
        untrained_costs,
        untrained_network,
    )

    config = one.config
    model = untrained_network(config, download=False)
    if is_users(config):
        require_outputs(config, model, class_count(config))
    costs = untrained_costs(config, model)
    until = one.steps[-1].stage.name
    if until in INTEGER:
        dense = costs.integers({})
        if until == INTEGER[-1]:
            _compile(config, model, costs, dense)
    if one.limits:
        problem = problem_untrained(config, model, costs)
        measured = problem.measure(smallest(problem))
        if problem.limit < CERTAIN * measured.cycles:
            raise UsageError(f"{refusal(problem, measured)} (measured on untrained weights)")


def _compile(config: Config, model: nn.Module, costs: NetworkCosts, dense: IntGraph) -> None:
    """The network as it is pruned where the dense one is refused: it may be the size alone.

    Raises UnsupportedError. Under a budget of cycles the dense network has to run.
    """
    from gpw_cli.stages.untrained import masks_untrained

    npu = npu_of(config.target)
    try:
        npu.compile(dense)
    except UnsupportedError:
        if config.pruning.scope is Scope.cycles:
            raise
        chosen = masks_untrained(config, model)
        if chosen is None:
            raise
        npu.compile(costs.integers(chosen.bools))
