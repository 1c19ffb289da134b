"""The stages of a configuration: compute their keys, and run the missing ones.

    for step in plan(config): print(step.stage.name, step.key)      # nothing runs, no torch
    artifacts = run(config, until="finetune", services=services)    # {"pretrain": Artifact, ...}

The list of stages is ``names.PIPELINE``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpw_cli.config.compose import to_plain
from gpw_cli.config.schema import Config
from gpw_cli.errors import UsageError
from gpw_cli.pruning.groups import Scheme
from gpw_cli.stages import inputs
from gpw_cli.stages.names import PIPELINE, STAGES, Stage
from gpw_cli.stages.provenance import git_commit, provenance
from gpw_cli.stages.purpose import purpose
from gpw_cli.store.keys import stage_key
from gpw_cli.store.store import Artifact
from gpw_cli.tracking.base import StageRun
from gpw_cli.tracking.session import flat

if TYPE_CHECKING:
    from gpw_cli.stages.services import Services
    from gpw_cli.tracking.session import Session


@dataclass(frozen=True)
class Step:
    """A stage with its key for a configuration."""

    stage: Stage
    key: str
    parent: str | None
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """The argument of a stage's ``build``: configuration, earlier artifacts, output directory.

    session: the run of the stage in the experiment trackers, for progress.
    """

    config: Config
    upstream: Mapping[str, Artifact]
    work: Path
    services: Services
    session: Session


def plan(config: Config, until: str = STAGES[-1]) -> list[Step]:
    """All stages up to and including ``until`` with their keys; runs nothing."""
    if until not in STAGES:
        raise UsageError(f"no stage '{until}': expected one of {', '.join(STAGES)}")
    steps: list[Step] = []
    parent = None
    skipped = _skipped(config)
    for stage in PIPELINE[: STAGES.index(until) + 1]:
        if stage.name in skipped:
            continue
        own = to_plain(getattr(inputs, stage.name)(config))
        parent_key, parent = parent, stage_key(stage.name, stage.version, own, parent)
        steps.append(Step(stage, parent, parent_key, own))
    return steps


def _skipped(config: Config) -> tuple[str, ...]:
    """Stages with nothing to do; a dense network trains on only as integers or shared values."""
    if config.pruning.scheme is not Scheme.dense:
        return ()
    own = config.finetune
    return ("prune",) if own.quantized or own.shared.bits else ("prune", "finetune")


def run(
    config: Config, services: Services, until: str = STAGES[-1], *, wait: bool = True
) -> dict[str, Artifact]:
    """Run the missing stages in order; without ``wait``, raises store.Busy for a busy stage."""
    done: dict[str, Artifact] = {}
    steps = plan(config, until)
    with services.store.using(step.key for step in steps):
        for index, step in enumerate(steps):
            done[step.stage.name] = _make(steps[: index + 1], config, services, done, wait)
    return done


def _make(
    chain: list[Step], config: Config, services: Services, done: Mapping[str, Artifact], wait: bool
) -> Artifact:
    step = chain[-1]
    stage = step.stage

    def build(work: Path) -> Mapping[str, Any]:
        services.listener.stage(stage.name, None, purpose(stage.name, config))
        module = importlib.import_module(f"gpw_cli.stages.{stage.name}")
        with services.trackers.stage(tracked(chain, config.seed)) as session:
            job = Job(config, dict(done), work, services, session)
            metrics: Mapping[str, Any] = module.build(job)
            session.finish(metrics)
        content["provenance"] = provenance(services.device_name, services.threads)
        return metrics

    content: dict[str, Any] = {
        "version": stage.version,
        "parent": step.parent,
        "inputs": step.inputs,
        "seed": config.seed,
        "config": {k: v for k, v in to_plain(config).items() if k != "sweep"},
    }
    for name in (
        "trackers",
        "tracking",
    ):  # they do not affect results, and an address may hold a password
        del content["config"]["runtime"][name]
    artifact = services.store.make(stage.name, step.key, content, build, wait=wait)
    services.listener.stage(stage.name, artifact.metrics)
    return artifact


def tracked(chain: list[Step], seed: int) -> StageRun:
    """The last step of ``chain`` for the trackers; its parameters are all inputs of its key."""
    parameters = dict(flat({step.stage.name: step.inputs for step in chain}))
    last = chain[-1]
    return StageRun(last.stage.name, last.key, parameters, seed, git_commit())
