"""torchvision, also where its compiled operators do not match the installed torch.

    torchvision = import_torchvision()
    net = torchvision.models.get_model("resnet18", num_classes=10)

A CPU build of torch beside torchvision's default (CUDA) wheel cannot load the wheel's operator
library, and the import stops at the first operator that is registered from Python. gpw uses none of
those operators (they belong to detection), so declaring the two names lets the import finish.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_MISSING = "operator torchvision::nms does not exist"
_DECLARATIONS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# Declarations live as long as the library object.
_libraries: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """The torchvision package, imported; its detection operators may be absent.

    Raises:
        RuntimeError, ImportError: torchvision is broken in another way.
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
    # The failed import left its submodules behind, half initialised.
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
