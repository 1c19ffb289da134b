"""Accuracy in fp32, without test-time augmentation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gpw_cli.data.images import Images, Split, normalise


@torch.inference_mode()
def logits(model: nn.Module, split: Split, images: Images, batch_size: int | None = None) -> Tensor:
    """float32 [N, classes] on the CPU, for every image of ``split`` in its order.

    An image's logits do not depend on the batch; on a CPU small batches, the default, stay in its
    caches.
    """
    device = next(model.parameters()).device
    batch_size = batch_size or (100 if device.type == "cpu" else 500)
    was_training = model.training
    model.eval()
    parts = [
        model(normalise(chunk.to(device), images.mean, images.std)).float().cpu()
        for chunk in torch.split(split.images, batch_size)
    ]
    model.train(was_training)
    return torch.cat(parts)


def accuracy(model: nn.Module, split: Split, images: Images) -> float:
    """Top-1 in percent over all of ``split``."""
    correct = logits(model, split, images).argmax(1) == split.labels.cpu()
    return 100.0 * int(correct.sum()) / len(split)
