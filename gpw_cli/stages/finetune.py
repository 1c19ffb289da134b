"""finetune: training with the mask held on weights, gradients and momenta."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpw_cli.stages.network import evaluate, load_masks, load_network, save_network
from gpw_cli.stages.pipeline import Job
from gpw_cli.stages.train import train


def build(job: Job) -> dict[str, Any]:
    """Fine-tuned weights (exactly zero where the mask is), history and accuracy."""
    model, described = load_network(job.upstream["prune"])
    masks = load_masks(job.upstream["prune"])
    own, pretrained = job.config.finetune, job.config.pretrain.train
    rewound = replace(pretrained, epochs=own.rewind) if own.rewind else None
    metrics = train(
        job,
        "finetune",
        model,
        rewound or own.train,
        masks,
        distill=own.distill,
        rewind_to=pretrained if rewound else None,
    )
    save_network(job.work, model, described)
    return {**metrics, **evaluate(job, model)}
