"""A network, which gpw calls with the number of classes and of channels."""

from __future__ import annotations

from torch import Tensor, nn


class Tiny(nn.Module):
    """Two convolutions and a classifier."""

    def __init__(self, num_classes: int, in_channels: int, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
        )
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_classes] for x [N, in_channels, H, W]."""
        return self.head(self.body(x).mean((2, 3)))
