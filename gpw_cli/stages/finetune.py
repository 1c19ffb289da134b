"""finetune: training with masked weights, gradients and momenta."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpw_cli.pruning.groups import Scheme
from gpw_cli.quantization.trained import QuantizedNetwork
from gpw_cli.stages.choose import choose_masks
from gpw_cli.stages.network import evaluate, load_masks, load_network, save_network
from gpw_cli.stages.pipeline import Job
from gpw_cli.stages.prune import save_choice
from gpw_cli.stages.quantized import keep, quantized_network, share_values
from gpw_cli.stages.train import read_history, train
from gpw_cli.training.masking import Gradual

if TYPE_CHECKING:
    from torch import Tensor, nn

CHOICE = "choice.json"


def build(job: Job) -> dict[str, Any]:
    """Fine-tuned weights (exactly zero where the mask is), history and accuracy.

    The accuracy is that of what was trained last: of the integers, of the shared values.
    """
    own, pretrained = job.config.finetune, job.config.pretrain.train
    if job.config.pruning.scheme is Scheme.dense and not own.quantized:
        return _shared(job, *load_network(job.upstream["pretrain"], job.config), {}, [])
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
    metrics |= json.loads((job.work / CHOICE).read_text()) if gradual else {}
    if own.shared.bits:
        return _shared(job, model, described, metrics, read_history(job.work))
    if isinstance(trained, QuantizedNetwork):
        keep(job, model, trained.graph())
        trained.ranges.save(job.work)
    save_network(job.work, model, described)
    return {**metrics, **evaluate(job, trained)}


def _shared(
    job: Job,
    model: nn.Module,
    described: Mapping[str, object],
    metrics: Mapping[str, Any],
    rows: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The weights of ``model`` shared and its values trained; metrics, rows: of before."""
    network, measured = share_values(job, model, rows)
    keep(job, model, network.graph())
    save_network(job.work, model, described)
    return {**measured, **metrics, **evaluate(job, network)}


def _gradual(job: Job) -> Gradual:
    """Masks chosen again by the steps of ``finetune.gradual``, each left in the artifact."""
    own = job.config.finetune.gradual

    def new_masks(model: nn.Module, full: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        chosen = choose_masks(job, model, full, share)
        (job.work / CHOICE).write_text(json.dumps(save_choice(job, chosen)))
        return chosen.masks

    return Gradual.cubic(own.steps, own.epochs, new_masks)
