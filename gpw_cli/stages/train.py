"""A training run in a stage, with progress for the listener and rows in ``metrics.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpw_cli.config.recipe import Recipe
from gpw_cli.config.schema import DistillConfig
from gpw_cli.stages.network import HISTORY
from gpw_cli.stages.teacher import teacher_for
from gpw_cli.store.store import RESUME
from gpw_cli.training.loop import EpochRecord, FitOptions, fit, resolved_precision
from gpw_cli.training.masking import Gradual

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gpw_cli.stages.pipeline import Job


@dataclass(frozen=True)
class TrainingPart:
    """One of several runs of training in a stage.

    ``name``: of its random stream and its checkpoint; empty: the stage's. ``rows``: the history of
    the runs before it; epochs are counted on from there.
    """

    name: str = ""
    rows: Sequence[dict[str, Any]] = ()


ONLY = TrainingPart()


def read_history(work: Path) -> list[dict[str, Any]]:
    """What ``write_history`` wrote; nothing where it has not."""
    file = work / HISTORY
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def write_history(work: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object per line and epoch."""
    (work / HISTORY).write_text("".join(json.dumps(row) + "\n" for row in rows))


def train(
    job: Job,
    stage: str,
    model: nn.Module,
    recipe: Recipe,
    masks: Mapping[str, Tensor] | None = None,
    *,
    gradual: Gradual | None = None,
    distill: DistillConfig | None = None,
    rewind_to: Recipe | None = None,
    part: TrainingPart = ONLY,
) -> dict[str, Any]:
    """Train ``model`` in place, resuming an earlier process, and describe the run.

    rewind_to: use the learning rates of the last ``recipe.epochs`` epochs of this recipe.
    """
    teacher = teacher_for(job, recipe, distill) if distill else None
    told = _Told(job, stage, len(part.rows), len(part.rows) + recipe.epochs)
    history = fit(
        model,
        job.services.images(job.config),
        recipe,
        FitOptions(
            part.name or stage,
            job.config.seed,
            job.services.device(),
            teacher,
            rewind_to,
            rewind_to.epochs - recipe.epochs if rewind_to else 0,
            told.on_step,
        ),
        masks=masks,
        gradual=gradual,
        checkpoint=job.work / f"{part.name}{RESUME}",
        on_epoch=told.on_epoch,
        on_resumed=told.on_resumed,
    )
    rows = [asdict(told.counted(record)) for record in history]
    write_history(job.work, [*part.rows, *rows])
    found = _described(job, recipe)
    return found | ({"teacher": distill.teacher} if teacher and distill else {})


@dataclass(frozen=True)
class _Told:
    """Who hears of the training. ``before``: epochs of earlier parts; ``epochs``: of all."""

    job: Job
    stage: str
    before: int
    epochs: int

    def counted(self, record: EpochRecord) -> EpochRecord:
        """``record`` with its epoch counted on from the parts before."""
        return replace(record, epoch=self.before + record.epoch)

    def on_epoch(self, record: EpochRecord) -> None:
        """After an epoch: the listener and the trackers."""
        self.job.services.listener.epoch(self.stage, self.counted(record), self.epochs)
        self.job.session.epoch(self.counted(record))

    def on_resumed(self, record: EpochRecord) -> None:
        """The trackers; the process may have been killed between checkpoint and tracker."""
        self.job.session.epoch(self.counted(record))

    def on_step(self, epoch: int, done: int, total: int) -> None:
        """Within an epoch: the listener."""
        what = f"{self.stage}  epoch {self.before + epoch}/{self.epochs}: images"
        self.job.services.listener.progress(what, done, total)


def _described(job: Job, recipe: Recipe) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "epochs": recipe.epochs,
        "precision": resolved_precision(recipe, job.services.device()).value,
        "seed": job.config.seed,
    }
