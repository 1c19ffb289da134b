"""Check before training that the network can be traced, quantized and compiled.

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

    def subject(self) -> dict[str, Any]:
        """The settings that decide whether it compiles; most points of a sweep share them."""
        config = self.config
        return {
            "model": to_plain(config.model),
            "data": [config.data.name, config.data.root, *image_shape(config)],
            "quantizer": to_plain(config.quantizer),
            "target": to_plain(config.target),
            "until": self.steps[-1].stage.name,
        }


def preflight(wanted: Iterable[Wanted], store: Store) -> None:
    """Check each distinct combination of network, quantizer and target that needs training.

    Raises UnsupportedError with all unsupported operators and where they are, for each combination.
    """
    subjects: dict[str, tuple[Config, str]] = {}
    for one in wanted:
        until = one.steps[-1].stage.name
        if until in INTEGER and one.trains(store):
            subjects.setdefault(json.dumps(one.subject(), sort_keys=True), (one.config, until))
    if not subjects:
        return
    from gpw_cli.stages.untrained import integers_untrained

    reports: dict[str, None] = {}
    for config, until in subjects.values():
        try:
            graph = integers_untrained(config)
            if until == INTEGER[-1]:
                _compile(config, graph)
        except UnsupportedError as error:
            reports[str(error)] = None
    if reports:
        raise UnsupportedError("\n".join(reports))


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
