"""One training run inside a stage: progress to the listener, a line a row in ``metrics.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gpw_cli.config.recipe import Recipe
from gpw_cli.stages.network import HISTORY
from gpw_cli.store.store import RESUME
from gpw_cli.training.loop import FitOptions, fit, resolved_precision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gpw_cli.stages.pipeline import Job


def train(
    job: Job,
    stage: str,
    model: nn.Module,
    recipe: Recipe,
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Fit ``model`` in place (resuming what an earlier process left) and describe the run."""
    services = job.services
    device = services.device()
    history = fit(
        model,
        services.pictures(job.config),
        recipe,
        FitOptions(stage, job.config.seed, device),
        masks=masks,
        checkpoint=job.work / RESUME,
        on_epoch=lambda record: services.listener.epoch(stage, record, recipe.epochs),
    )
    rows = [json.dumps(asdict(record)) + "\n" for record in history]
    (job.work / HISTORY).write_text("".join(rows))
    return {
        "recipe": recipe.name,
        "epochs": recipe.epochs,
        "precision": resolved_precision(recipe, device).value,
        "seed": job.config.seed,
    }
