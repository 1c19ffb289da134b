"""finetune.shared: the weights of each layer share 2^bits values, which are trained.

The values are chosen in the network as it is quantized later, with folded batch norms and equalised
weights. With one scale per layer the integers are then shared in the same way, so that an engine
with a codebook (target=eie) has exactly the trained values, rounded to the bits of the quantizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gpw_cli.quantization.shared import SharedNetwork
from gpw_cli.stages.network import evaluate
from gpw_cli.stages.quantized import folded
from gpw_cli.stages.train import Part, train

if TYPE_CHECKING:
    from torch import nn

    from gpw_cli.stages.pipeline import Job


def share_values(
    job: Job, model: nn.Module, rows: Sequence[dict[str, Any]]
) -> tuple[SharedNetwork, dict[str, Any]]:
    """Train ``model`` with shared values; returns it and metrics. ``rows``: history so far.

    ``shared_untrained``: test accuracy, in percent, with the values of k-means.
    Raises UnsupportedError for a convolution that runs more than once.
    """
    own = job.config.finetune
    network = SharedNetwork(folded(job, model, "finetune.shared.bits"), own.shared.bits)
    untrained = evaluate(job, network)["test_accuracy"]
    recipe = replace(own.train, epochs=own.shared.epochs, lr=own.shared.lr, weight_decay=0.0)
    part = Part("shared", rows)
    metrics = train(job, "finetune", network, recipe, distill=own.distill, part=part)
    return network, {
        **metrics,
        "shared_bits": own.shared.bits,
        "shared_epochs": own.shared.epochs,
        "shared_untrained": untrained,
    }
