"""finetune: training with the mask held on weights, gradients and momenta."""

from __future__ import annotations

from typing import Any

from gpw_cli.stages.network import evaluate, load_masks, load_network, save_network
from gpw_cli.stages.pipeline import Job
from gpw_cli.stages.train import train


def build(job: Job) -> dict[str, Any]:
    """Fine-tuned weights (exactly zero where the mask is), history and accuracy."""
    model, described = load_network(job.upstream["prune"])
    masks = load_masks(job.upstream["prune"])
    metrics = train(job, "finetune", model, job.config.finetune.train, masks)
    save_network(job.work, model, described)
    return {**metrics, **evaluate(job, model)}
