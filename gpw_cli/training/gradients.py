"""Gradient times weight over training images, for the criterion ``taylor``.

products = gradient_products(model, weights, images, batches=50, device=device)
products["layer1.0.conv1.weight"][0]        # of the first batch, in the shape of the weight
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gpw_cli.data.images import Images, normalise
from gpw_cli.training.randomness import generator

BATCH = 128


def gradient_products(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    images: Images,
    batches: int,
    device: torch.device,
) -> dict[str, list[Tensor]]:
    """float32 gradient times weight by parameter name, one tensor per batch, on the CPU.

    weights: the values to multiply with, by parameter name; the gradients are those of ``model``.

    The loss is the cross entropy of 128 training images without augmentation, in evaluation mode
    and fp32. The images come from a fixed random stream, the same for every run. ``model`` keeps
    its mode; its gradients are cleared.
    """
    stream = generator(0, "saliency", 0)
    order = torch.randperm(len(images.train), generator=stream)
    model.to(device)
    was_training = model.training
    model.eval()
    own = dict(model.named_parameters())
    found: dict[str, list[Tensor]] = {name: [] for name in weights}
    for rows in torch.split(order[: batches * BATCH], BATCH):
        x = normalise(images.train.images[rows].to(device), images.mean, images.std)
        loss = nn.functional.cross_entropy(model(x), images.train.labels[rows].to(device))
        gradients = torch.autograd.grad(loss, [own[name] for name in weights])
        for name, gradient in zip(weights, gradients, strict=True):
            found[name].append((gradient * weights[name].detach().to(gradient)).cpu())
    model.train(was_training)
    return found
