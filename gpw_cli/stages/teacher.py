"""The teacher of a training stage and the cache of its logits."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gpw_cli.config.compose import to_plain
from gpw_cli.config.recipe import Precision, Recipe
from gpw_cli.config.schema import DistillConfig
from gpw_cli.models.checkpoint import import_checkpoint
from gpw_cli.models.registry import build_model
from gpw_cli.stages.inputs import teacher_file
from gpw_cli.stages.network import load_network
from gpw_cli.store.keys import digest
from gpw_cli.training.distill import Teacher
from gpw_cli.training.loop import resolved_precision

if TYPE_CHECKING:
    from torch import nn

    from gpw_cli.stages.pipeline import Job


def teacher_for(job: Job, recipe: Recipe, distill: DistillConfig) -> Teacher | None:
    """The trained network that ``distill`` names; None if it names none.

    Raises CheckpointError for a file that does not hold the network.
    """
    if distill.teacher == "none":
        return None
    model = _network(job, distill)
    device = job.services.device()
    precision = resolved_precision(recipe, device)
    augmented = {"batch_size", "crop", "padding", "flip"}
    images = job.services.images(job.config)
    said = digest(
        {
            "teacher": _fingerprint(model),
            "pictures": [images.fingerprint, len(images.train)],
            "recipe": {k: v for k, v in to_plain(recipe).items() if k in augmented},
            "seed": job.config.seed,
            "device": [device.type, precision.value, job.services.threads],
        }
    )
    return Teacher(
        model,
        distill.temperature,
        distill.weight,
        device,
        autocast=precision is Precision.bf16,
        cache=job.services.teachers / said[:16],
    )


def _network(job: Job, distill: DistillConfig) -> nn.Module:
    if distill.teacher == "dense":
        return load_network(job.upstream["pretrain"], job.config)[0]
    name, file = teacher_file(job.config, distill)
    images = job.services.images(job.config)
    model = build_model(name, len(images.classes), images.shape[0], job.config.model.shortcut)
    import_checkpoint(file, model)
    return model


def _fingerprint(model: nn.Module) -> str:
    hashed = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        hashed.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()
