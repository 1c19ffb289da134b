"""Data sets in memory: uint8 images in N,H,W,C order, labels, and the normalisation.

data = load_images("digits", None, cache, 16, 1)     # see gpw_cli/data/registry.py
x, y = batch(data.train, rows, data, augment, generator)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gpw_cli.errors import UsageError

HELD_OUT_SEED = 5000  # the same images for every seed of a run


@dataclass(frozen=True)
class Split:
    """images: uint8 [N, H, W, C]; labels: int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def first(self, count: int) -> Split:
        """The first ``count`` images; 0, or more than there are: all."""
        return Split(self.images[:count], self.labels[:count]) if count else self

    def to(self, device: torch.device) -> Split:
        """The same images on ``device``."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Images:
    """A data set: two splits, class names, mean and std per channel (of pixels in 0..1)."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str  # sha256 over pixels and labels; keys use identity.py

    @property
    def shape(self) -> tuple[int, int, int]:
        """[C, H, W] of one image."""
        height, width, channels = self.train.images.shape[1:]
        return channels, height, width


def held_out(images: Images, count: int) -> Images:
    """A validation split: ``count`` fixed training images in place of the test images.

    Recipes, criteria and quantizer settings are chosen on it, so that the test images are used for
    final numbers only. 0: ``images`` unchanged.

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
    order = torch.randperm(total, generator=torch.Generator().manual_seed(HELD_OUT_SEED))
    held, kept = order[:count].sort().values, order[count:].sort().values
    train, test = (
        Split(images.train.images[rows], images.train.labels[rows]) for rows in (kept, held)
    )
    return replace(images, train=train, test=test)


@dataclass(frozen=True)
class Augment:
    """Random crop after padding by ``crop`` pixels, and random flip; by default neither."""

    crop: int = 0
    reflect: bool = True
    flip: bool = False


def normalise(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x/255 - mean) / std: uint8 [B, H, W, C] -> float32 [B, C, H, W] in channels_last."""
    device = pixels.device
    scale = 1.0 / (255.0 * torch.tensor(std, device=device))
    shift = torch.tensor(mean, device=device) / torch.tensor(std, device=device)
    return (pixels.float() * scale - shift).permute(0, 3, 1, 2)


def batch(
    split: Split, rows: Tensor, images: Images, augment: Augment, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images ``rows`` (int64 [B]), augmented and normalised: [B, C, H, W] float32, [B] int64.

    Crop and flip are a single gather with row and column indices per image, which are reflected at
    the border or masked to zero. No padded copy of the data set is needed.
    """
    pixels = _cropped(split.images, rows, augment, generator)
    return normalise(pixels, images.mean, images.std), split.labels[rows]


def _cropped(images: Tensor, rows: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    if augment.crop == 0 and not augment.flip:
        return images[rows]
    count, device = len(rows), images.device
    _, height, width, _ = images.shape

    def draw(high: int) -> Tensor:
        return torch.randint(high, (count, 1), generator=generator).to(device)

    y = draw(2 * augment.crop + 1) - augment.crop + torch.arange(height, device=device)
    x = draw(2 * augment.crop + 1) - augment.crop + torch.arange(width, device=device)
    if augment.flip:
        x = torch.where(draw(2) == 1, x.flip(1), x)
    pixels = images[
        rows[:, None, None], _reflect(y, height)[:, :, None], _reflect(x, width)[:, None]
    ]
    if augment.reflect:
        return pixels
    inside = (_inside(y, height)[:, :, None] & _inside(x, width)[:, None]).unsqueeze(-1)
    return pixels * inside


def _reflect(index: Tensor, size: int) -> Tensor:
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def _inside(index: Tensor, size: int) -> Tensor:
    return (index >= 0) & (index < size)
