"""One training run inside a stage: progress to the listener, a line a row in ``metrics.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
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


def write_history(work: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON object a line and epoch."""
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
) -> dict[str, Any]:
    """Fit ``model`` in place (resuming what an earlier process left) and describe the run.

    rewind_to: use the learning rates of this recipe's last ``recipe.epochs`` epochs.
    """
    services = job.services
    device = services.device()
    teacher = teacher_for(job, recipe, distill) if distill else None

    def on_epoch(record: EpochRecord) -> None:
        services.listener.epoch(stage, record, recipe.epochs)
        job.session.epoch(record)

    def on_step(epoch: int, done: int, total: int) -> None:
        what = f"{stage}  epoch {epoch}/{recipe.epochs}: images"
        services.listener.progress(what, done, total)

    history = fit(
        model,
        services.pictures(job.config),
        recipe,
        FitOptions(
            stage,
            job.config.seed,
            device,
            teacher,
            rewind_to,
            rewind_to.epochs - recipe.epochs if rewind_to else 0,
            on_step,
        ),
        masks=masks,
        gradual=gradual,
        checkpoint=job.work / RESUME,
        on_epoch=on_epoch,
        on_resumed=job.session.epoch,  # a kill may have come between checkpoint and tracker
    )
    write_history(job.work, [asdict(record) for record in history])
    return {
        "recipe": recipe.name,
        "epochs": recipe.epochs,
        "precision": resolved_precision(recipe, device).value,
        "seed": job.config.seed,
        **({"teacher": distill.teacher} if teacher and distill else {}),
    }
