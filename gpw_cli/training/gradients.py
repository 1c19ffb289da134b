"""Gradient x weight over training pictures: what the criterion ``taylor`` scores groups by.

products = gradient_products(model, names, pictures, batches=50, device=device)
products["layer1.0.conv1.weight"][0]        # of the first batch, of the weight's shape
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gpw_cli.data.pictures import Pictures, normalise
from gpw_cli.training.randomness import generator

BATCH = 128


def gradient_products(
    model: nn.Module,
    names: Sequence[str],
    pictures: Pictures,
    batches: int,
    device: torch.device,
) -> dict[str, list[Tensor]]:
    """float32 gradient x weight of the parameters ``names``, one tensor for each batch, on the CPU.

    The loss is the cross entropy of 128 training pictures, unaugmented, in evaluation mode and
    fp32; the pictures are drawn by a fixed stream, the same for every run. ``model`` keeps its mode
    and its gradients are cleared.
    """
    stream = generator(0, "saliency", 0)
    order = torch.randperm(len(pictures.train), generator=stream)
    model.to(device)
    was_training = model.training
    model.eval()
    own = dict(model.named_parameters())
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    for rows in torch.split(order[: batches * BATCH], BATCH):
        x = normalise(pictures.train.images[rows].to(device), pictures.mean, pictures.std)
        loss = nn.functional.cross_entropy(model(x), pictures.train.labels[rows].to(device))
        gradients = torch.autograd.grad(loss, [own[name] for name in names])
        for name, gradient in zip(names, gradients, strict=True):
            found[name].append((gradient * own[name].detach()).cpu())
    model.train(was_training)
    return found
