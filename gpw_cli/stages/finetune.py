"""finetune: training with the mask held on weights, gradients and momenta."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpw_cli.quantization.trained import QuantizedNetwork
from gpw_cli.stages.choose import choose_masks
from gpw_cli.stages.network import evaluate, load_masks, load_network, save_network
from gpw_cli.stages.pipeline import Job
from gpw_cli.stages.prune import save_choice
from gpw_cli.stages.quantized import keep, quantized_network
from gpw_cli.stages.train import train
from gpw_cli.training.masking import Gradual

if TYPE_CHECKING:
    from torch import Tensor, nn

CHOICE = "choice.json"


def build(job: Job) -> dict[str, Any]:
    """Fine-tuned weights (exactly zero where the mask is), history and accuracy.

    Trained as integers, the accuracy is that of the integers.
    """
    own, pretrained = job.config.finetune, job.config.pretrain.train
    gradual = _gradual(job) if own.gradual.steps else None
    source = (
        job.upstream["pretrain"] if gradual else job.upstream.get("prune", job.upstream["pretrain"])
    )
    model, described = load_network(source, job.config)
    trained = quantized_network(job, model) if own.quantized else model
    # a gradual run chooses its own masks, and the network of integers holds its zeros itself
    masks = {} if gradual or own.quantized else load_masks(source)
    rewound = replace(pretrained, epochs=own.rewind) if own.rewind else None
    metrics = train(
        job,
        "finetune",
        trained,
        rewound or own.train,
        masks,
        gradual=gradual,
        distill=own.distill,
        rewind_to=pretrained if rewound else None,
    )
    if isinstance(trained, QuantizedNetwork):
        keep(job, model, trained)
    save_network(job.work, model, described)
    last = json.loads((job.work / CHOICE).read_text()) if gradual else {}
    return {**metrics, **last, **evaluate(job, trained)}


def _gradual(job: Job) -> Gradual:
    """Masks chosen again by the steps of ``finetune.gradual``, each left in the artifact."""
    own = job.config.finetune.gradual

    def choose(model: nn.Module, full: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        chosen = choose_masks(job, model, full, share)
        (job.work / CHOICE).write_text(json.dumps(save_choice(job, chosen)))
        return chosen.masks

    return Gradual.cubic(own.steps, own.epochs, choose)
