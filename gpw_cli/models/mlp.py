"""Fully connected networks, the target of EIE and ESE.

    network = build_network(NetworkSpec("mlp", classes=10, in_channels=1))
    logits = network(torch.zeros(1, 1, 16, 16))       # [1, 10]

``alexnet_classifier`` has the last three layers of AlexNet, 9216 -> 4096 -> 4096 -> classes. Its
input is an image of 96x96 pixels instead of the 9216 features.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from gpw_cli.models.catalog import NetworkSpec

NETWORKS = {"mlp": (1, 16), "alexnet_classifier": (1, 96)}
HIDDEN = {"mlp": (1024, 512), "alexnet_classifier": (4096, 4096)}  # widths of the hidden layers


def build_network(wanted: NetworkSpec) -> nn.Sequential:
    """A network [N, in_channels, H, W] float -> logits [N, classes]; H = W from ``NETWORKS``."""
    (_, size), hidden = NETWORKS[wanted.name], HIDDEN[wanted.name]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise((wanted.in_channels * size * size, *hidden)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    layers.append(nn.Linear(hidden[-1], wanted.classes))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
