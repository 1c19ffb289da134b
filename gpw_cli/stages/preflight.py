"""Check before training that the network can be traced, quantized and compiled, and that a budget
of cycles can be met.

    preflight([(config, plan(config))], store)      # UnsupportedError lists all that cannot run

The check takes seconds. It is skipped if the trained networks are in the store already. Importing
this imports no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpw_cli.config.compose import to_plain
from gpw_cli.config.schema import Config
from gpw_cli.errors import UnsupportedError
from gpw_cli.pruning.allocation import Scope
from gpw_cli.stages.inputs import image_shape, weights_file
from gpw_cli.stages.pipeline import Step
from gpw_cli.store.store import Store
from gpw_cli.targets.registry import npu_of

if TYPE_CHECKING:
    from gpw_cli.graph.integer import IntGraph

INTEGER = ("quantize", "fuse", "simulate")  # stages that need the traced network
MANIFEST = "manifest.json"
#: Share of the smallest untrained network's cycles that no trained one goes below: a few passes
#: depend on the scales.
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
    """Check each distinct combination of network, quantizer and target that needs training.

    Raises UnsupportedError with all unsupported operators and where they are, and with the budgets
    that cannot be met, for each combination.
    """
    subjects: dict[str, Wanted] = {}
    for one in wanted:
        needed = one.limits or one.steps[-1].stage.name in INTEGER
        if needed and one.trains(store):
            subjects.setdefault(json.dumps(one.subject(), sort_keys=True), one)
    if not subjects:
        return
    reports: dict[str, None] = {}
    for one in subjects.values():
        try:
            _check(one)
        except UnsupportedError as error:
            reports[str(error)] = None
    if reports:
        raise UnsupportedError("\n".join(reports))


def _check(one: Wanted) -> None:
    from gpw_cli.stages.untrained import integers_untrained, smallest_untrained

    graph = integers_untrained(one.config)
    if one.steps[-1].stage.name == INTEGER[-1]:
        _compile(one.config, graph)
    if one.limits:
        limit, least = smallest_untrained(one.config)
        if limit < CERTAIN * least:
            raise UnsupportedError(
                f"pruning.budget={limit} cycles cannot be met: with everything removed that may go "
                f"the untrained network still takes {least}; the smallest budget is near "
                f"pruning.budget={math.ceil(least / (1 - one.config.pruning.margin))}"
            )


def _compile(config: Config, dense: IntGraph) -> None:
    """The network as it is pruned where the dense one is refused: it may be the size alone.

    Raises UnsupportedError. Under a budget of cycles the dense network has to run.
    """
    from gpw_cli.stages.untrained import masks_untrained, untrained_costs, untrained_network

    npu = npu_of(config.target)
    try:
        npu.compile(dense)
    except UnsupportedError:
        if config.pruning.scope is Scope.cycles:
            raise
        model = untrained_network(config)
        chosen = masks_untrained(config, model)
        if chosen is None:
            raise
        npu.compile(untrained_costs(config, model).integers(chosen.bools))
