"""Fully connected networks, the target of EIE and ESE.

    logits = mlp("mlp", classes=10, in_channels=1)(torch.zeros(1, 1, 16, 16))     # [1, 10]

``alexnet_classifier`` has the last three layers of AlexNet, 9216 -> 4096 -> 4096 -> classes. Its
input is an image of 96x96 pixels instead of the 9216 features.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from gpw_cli.models.inputs import MLPS


def mlp(name: str, classes: int, in_channels: int) -> nn.Sequential:
    """A network [N, in_channels, H, W] float -> logits [N, classes]; H = W from ``inputs.MLPS``."""
    size, hidden = MLPS[name]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise((in_channels * size * size, *hidden)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    layers.append(nn.Linear(hidden[-1], classes))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
