"""Networks of fully connected layers: what EIE and ESE were made for.

    logits = mlp("mlp", classes=10, in_channels=1)(torch.zeros(1, 1, 16, 16))     # [1, 10]

``alexnet_classifier`` is AlexNet's last three layers, 9216 -> 4096 -> 4096 -> classes, on a
picture of 96x96 pixels in place of the 9216 features.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from gpw_cli.models.inputs import MLPS


def mlp(name: str, classes: int, in_channels: int) -> nn.Sequential:
    """[N, in_channels, H, W] float, H = W as ``inputs.MLPS`` says, -> logits [N, classes]."""
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
