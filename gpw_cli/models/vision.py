"""torchvision's networks; it is imported even if its operators do not match the installed torch.

    torchvision = import_torchvision()
    net = torchvision.models.get_model("resnet18", num_classes=10)

A CPU build of torch cannot load the operator library of torchvision's default (CUDA) wheel, and the
import fails at the first operator that is registered from Python. gpw does not use these operators,
which are for detection, so it is enough to declare their two names.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import torch
from torch import nn

from gpw_cli.models.catalog import NetworkSpec, require_colour

_MISSING = "operator torchvision::nms does not exist"
_DECLARATIONS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# With auxiliary classifiers the training output would be a tuple.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
# Declarations are valid as long as the library object exists.
_libraries: list[torch.library.Library] = []


def build_network(wanted: NetworkSpec) -> nn.Module:
    """A network of torchvision: [N, 3, H, W] float -> logits [N, classes]."""
    require_colour(wanted)
    network: nn.Module = import_torchvision().models.get_model(
        wanted.name, weights=None, num_classes=wanted.classes, **_OPTIONS.get(wanted.name, {})
    )
    return network


def import_torchvision() -> ModuleType:
    """The torchvision package; its detection operators may be missing.

    Raises:
        RuntimeError, ImportError: torchvision cannot be imported for another reason.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
    _declare_operators()
    return importlib.import_module("torchvision")


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for declaration in _DECLARATIONS:
        library.define(declaration)  # type: ignore[no-untyped-call]
    _libraries.append(library)
    # The failed import leaves partly initialised submodules.
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
