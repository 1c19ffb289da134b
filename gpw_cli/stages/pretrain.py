"""pretrain: a dense network, trained from scratch or read from a file."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gpw_cli.models.weight_files import SHOWN, bundled_manifest
from gpw_cli.stages.inputs import trains
from gpw_cli.stages.network import (
    evaluate,
    fresh_network,
    give_weights,
    is_users,
    require_outputs,
    save_network,
)
from gpw_cli.stages.pipeline import Job
from gpw_cli.stages.train import train, write_history
from gpw_cli.training.randomness import derived_seed


def _trained(job: Job, model: nn.Module) -> dict[str, Any]:
    own = job.config.pretrain
    return train(job, "pretrain", model, own.train, distill=own.distill)


def build(job: Job) -> dict[str, Any]:
    """Weights, description, and test accuracy."""
    config = job.config
    images = job.services.images(config)
    # epoch -1 is the initialisation
    torch.manual_seed(derived_seed(config.seed, "pretrain", -1))
    model, described = fresh_network(config, len(images.classes), images.shape[0])
    if is_users(config):
        require_outputs(config, model, len(images.classes))
    source = give_weights(config, model)
    if source is None:
        metrics = {"source": "scratch", **_trained(job, model)}
    else:
        shipped = bundled_manifest(source)
        metrics = {"source": source.name} | {key: shipped[key] for key in SHOWN if key in shipped}
        if shipped:
            write_history(job.work, shipped["history"])
    save_network(job.work, model, described)
    return {**metrics, **evaluate(job, model, 0 if trains(config) else config.evaluate.images)}
