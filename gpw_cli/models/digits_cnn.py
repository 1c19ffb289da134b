"""A small plain CNN for the embedded digits, 16x16 pixels: about 0.1 M weights.

    logits = DigitsCnn(classes=10, in_channels=1)(torch.zeros(1, 1, 16, 16))       # [1, 10]

After the first convolution it has 44 tiles of 16x16 channels (4 + 16 + 24), enough to compare
pruning of 16x16x3x3 blocks and 16x16x1x1 groups at 50 to 90 %.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gpw_cli.models.catalog import NetworkSpec
from gpw_cli.models.cifar_resnet import he_normal_

NETWORKS = {"digits_cnn": (1, 16)}
# (output channels, stride) of each convolution
CONVOLUTIONS = ((16, 1), (64, 2), (64, 1), (96, 2))


def build_network(wanted: NetworkSpec) -> DigitsCnn:
    """``digits_cnn``."""
    return DigitsCnn(wanted.classes, wanted.in_channels)


class DigitsCnn(nn.Module):
    """3x3 convolutions with batch norm and ReLU, a global average, one linear layer."""

    def __init__(self, classes: int, in_channels: int) -> None:
        super().__init__()
        channels, layers = in_channels, []
        for out_channels, stride in CONVOLUTIONS:
            layers += [
                nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
            channels = out_channels
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels, classes)
        he_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] float -> logits [N, classes]."""
        x = self.features(x)
        return self.linear(torch.flatten(self.pool(x), 1))  # type: ignore[no-any-return]
