"""Passes over images in evaluation mode, fp32, without augmentation: logits, accuracy, gradients.

products = gradient_products(model, weights, images, batches=50, device=device)
products["layer1.0.conv1.weight"][0]        # of the first batch, in the shape of the weight
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gpw_cli.data.images import Images, Split, normalise
from gpw_cli.threads import each
from gpw_cli.training.randomness import generator

GRADIENT_BATCH = 128
CACHED = 40 * 32 * 32  # pixels of a batch whose activations stay in the caches of a core
SMALL = 64  # pixels; operations on larger images are long enough to be shared among the threads


@torch.inference_mode()
def logits(model: nn.Module, split: Split, images: Images, batch_size: int | None = None) -> Tensor:
    """float32 [N, classes] on the CPU, for every image of ``split`` in its order.

    An image's logits do not depend on the batch; on a CPU small batches, the default, stay in its
    caches. ``model`` keeps its mode.
    """
    on_cpu = next(model.parameters()).device.type == "cpu"
    chunks = torch.split(split.images, batch_size or _batch(split.images, on_cpu))
    was_training = model.training
    model.eval()
    try:
        if on_cpu and max(split.images.shape[1:3]) <= SMALL:
            return torch.cat(_each(model, chunks, images))
        return torch.cat([_logits(model, chunk, images) for chunk in chunks])
    finally:
        model.train(was_training)


def _batch(pixels: Tensor, on_cpu: bool) -> int:
    """How many images of ``pixels`` [N, H, W, C] to evaluate at once."""
    high, wide = pixels.shape[1:3]
    if not on_cpu:
        return 500
    return 100 if max(high, wide) > SMALL else min(500, CACHED // (high * wide))


def _logits(model: nn.Module, pixels: Tensor, images: Images) -> Tensor:
    device = next(model.parameters()).device
    found: Tensor = model(normalise(pixels.to(device), images.mean, images.std))
    return found.float().cpu()


def _each(model: nn.Module, chunks: Sequence[Tensor], images: Images) -> list[Tensor]:
    """A batch a thread, each on a copy of ``model``, which need not be safe to share."""
    idle = [model]
    try:
        idle += [copy.deepcopy(model) for _ in range(torch.get_num_threads() - 1)]
    except (RuntimeError, TypeError):  # it holds what cannot be copied, such as an activation
        return [_logits(model, chunk, images) for chunk in chunks]

    @torch.inference_mode()  # is a setting of each thread
    def compute(chunk: Tensor) -> Tensor:
        own = idle.pop()
        try:
            return _logits(own, chunk, images)
        finally:
            idle.append(own)

    return each(compute, chunks)


def accuracy(model: nn.Module, split: Split, images: Images) -> float:
    """Top-1 in percent over all of ``split``."""
    correct = logits(model, split, images).argmax(1) == split.labels.cpu()
    return 100.0 * int(correct.sum()) / len(split)


def gradient_products(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    images: Images,
    batches: int,
    device: torch.device,
) -> dict[str, list[Tensor]]:
    """Gradient times weight, for the criterion ``taylor``: float32, on the CPU, one tensor per
    batch, by parameter name.

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
    try:
        for rows in torch.split(order[: batches * GRADIENT_BATCH], GRADIENT_BATCH):
            x = normalise(images.train.images[rows].to(device), images.mean, images.std)
            loss = nn.functional.cross_entropy(model(x), images.train.labels[rows].to(device))
            gradients = torch.autograd.grad(loss, [own[name] for name in weights])
            for name, gradient in zip(weights, gradients, strict=True):
                found[name].append((gradient * weights[name].detach().to(gradient)).cpu())
    finally:
        model.train(was_training)
    return found
