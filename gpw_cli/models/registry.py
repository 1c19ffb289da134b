"""Build a network by name. A new network has an entry here and in ``inputs.py``.

net = build_model("resnet20", classes=10, in_channels=3, shortcut="A")
net = build_model("mobilenet_v2", classes=1000, in_channels=3, shortcut="A")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gpw_cli.errors import UsageError
from gpw_cli.models.inputs import (
    DIGITS_CNN,
    MLPS,
    TORCHVISION,
    check_widths,
    cifar_depth,
    model_input,
    model_names,
    unknown_model,
)
from gpw_cli.models.onnx_file import is_onnx
from gpw_cli.models.own import build_own, check_args, is_own

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build_model", "model_input", "model_names"]

# With auxiliary classifiers the training output would be a tuple.
_TORCHVISION_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


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
    depth = cifar_depth(name)
    check_widths(name, widths)
    if name == DIGITS_CNN:
        from gpw_cli.models.digits_cnn import DigitsCnn

        return DigitsCnn(classes, in_channels)
    if name in MLPS:
        from gpw_cli.models.mlp import mlp

        return mlp(name, classes, in_channels)
    if depth is None and name not in TORCHVISION:
        raise unknown_model(name)
    if in_channels != 3:
        raise UsageError(
            f"model.name={name} takes images of 3 channels, not {in_channels}: "
            f"use data.channels=3 or model={DIGITS_CNN}"
        )
    if depth is not None:
        from gpw_cli.models.cifar_resnet import cifar_resnet

        return cifar_resnet(depth, classes, _option(shortcut), widths)
    return _torchvision_model(name, classes)


def _option(shortcut: str) -> Literal["A", "B"]:
    if shortcut == "A":
        return "A"
    if shortcut == "B":
        return "B"
    raise UsageError(
        f"model.shortcut={shortcut}: use A (zero padding, as published) or B (1x1 convolution)"
    )


def _torchvision_model(name: str, classes: int) -> nn.Module:
    from gpw_cli.models.vision import import_torchvision

    options = _TORCHVISION_OPTIONS.get(name, {})
    network: nn.Module = import_torchvision().models.get_model(
        name, weights=None, num_classes=classes, **options
    )
    return network
