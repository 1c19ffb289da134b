"""A data set: horizontal and vertical stripes. What needs torch is imported when it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpw_cli.data.catalog import DataSet

if TYPE_CHECKING:
    from gpw_cli.data.images import Images


def _load(root: Path | None, size: int, channels: int) -> Images:
    import torch

    from gpw_cli.data.images import Images, Split

    noise = torch.Generator().manual_seed(0)
    lines = 255 * (torch.arange(size) % 2)

    def split(count: int) -> Split:
        labels = torch.arange(count) % 2
        flat = lines.expand(size, size)
        clean = torch.stack([flat if label else flat.T for label in labels])
        drawn = torch.randint(100, clean.shape, generator=noise)
        images = (clean * 155 // 255 + drawn).to(torch.uint8)
        return Split(images[..., None].expand(-1, -1, -1, channels).contiguous(), labels)

    half = (0.5,) * channels
    return Images("stripes", split(256), split(64), ("across", "down"), half, half, "stripes 1")


stripes = DataSet(_load, classes=2, channels=1, size=16, description="320 of stripes, 2 classes")
