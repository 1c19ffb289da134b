"""A validation split: training images that replace the test images.

    images = held_out(images, 5000)     # trains on the others, without the test images

Recipes, criteria and quantizer settings are chosen on it, so that the test images are used for
final numbers only.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from gpw_cli.data.images import Images, Split
from gpw_cli.errors import UsageError

SEED = 5000  # the same images for every seed of a run


def held_out(images: Images, count: int) -> Images:
    """``images`` with ``count`` fixed training images as the test split; 0: unchanged.

    Raises UsageError if no images would be left to train on.
    """
    if count == 0:
        return images
    total = len(images.train)
    if count >= total:
        raise UsageError(
            f"data.validation={count}: {images.name} has {total} training images; "
            f"use at most data.validation={total - 1}"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(SEED))
    held, kept = order[:count].sort().values, order[count:].sort().values
    train, test = (
        Split(images.train.images[rows], images.train.labels[rows]) for rows in (kept, held)
    )
    return replace(images, train=train, test=test)
