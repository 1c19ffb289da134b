"""Initial weights of gpw's own networks."""

from __future__ import annotations

from torch import nn


def he_normal_(network: nn.Module) -> None:
    """Draw the weights of all convolutions and linear layers (He et al. 2015), in module order."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
