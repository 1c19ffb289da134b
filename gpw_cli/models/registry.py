"""Build a network by name. A new network is a file of this package (``catalog.py``).

net = build_model("resnet20", classes=10, in_channels=3, shortcut="A")
net = build_model("mobilenet_v2", classes=1000, in_channels=3, shortcut="A")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpw_cli.models.catalog import NetworkSpec
from gpw_cli.models.inputs import (
    TORCHVISION,
    check_widths,
    found,
    model_input,
    model_names,
    unknown_model,
)
from gpw_cli.models.onnx_file import is_onnx
from gpw_cli.models.own import build_own, check_args, is_own

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build_model", "model_input", "model_names"]


def build_model(
    name: str,
    classes: int,
    in_channels: int,
    shortcut: str,
    widths: Sequence[int] = (),
    args: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A freshly initialised network: [N, in_channels, H, W] float32 -> logits [N, classes].

    ``shortcut`` ("A" or "B") and ``widths`` (channels of the three stages; empty: as published)
    apply to CIFAR ResNets only, ``args`` only to the user's own code.

    Raises:
        UsageError: unknown network or shortcut, invalid widths, or an unsupported number of
            channels.
    """
    if is_own(name):
        return build_own(name, args or {}, classes, in_channels)
    check_args(name, args or {})
    if is_onnx(name):
        from gpw_cli.models.onnx_import import read_onnx

        return read_onnx(Path(name))
    check_widths(name, widths)
    own = found(name)
    if own is None and name not in TORCHVISION:
        raise unknown_model(name)
    module = import_module(own.module if own is not None else "gpw_cli.models.vision")
    network: nn.Module = module.build_network(
        NetworkSpec(name, classes, in_channels, shortcut, widths)
    )
    return network
