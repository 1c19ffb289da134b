"""Identity and input size of an ONNX file. Imports no torch.

onnx_input("net.onnx")           # (3, 224)
onnx_identity("net.onnx")        # {"onnx": "net.onnx", "sha256": ...}
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpw_cli.errors import UsageError
from gpw_cli.store.files import Stamp, stamp

if TYPE_CHECKING:
    from types import ModuleType


def is_onnx(name: str) -> bool:
    """Whether ``model.name`` names an ONNX file."""
    return name.endswith(".onnx")


def import_onnx() -> ModuleType:
    """The onnx package; UsageError if it is not installed."""
    try:
        import onnx
    except ImportError:
        raise UsageError("ONNX files need the onnx package: pip install 'gpw[onnx]'") from None
    module: ModuleType = onnx
    return module


def load_onnx(file: Path) -> Any:
    """The model with inferred shapes, checked by onnx; UsageError if it is not valid."""
    import_onnx()
    if not file.is_file():
        raise UsageError(f"model={file}: no such file")
    return _checked(file, stamp(file))


@cache
def _checked(file: Path, state: Stamp) -> Any:
    onnx = import_onnx()
    try:
        model = onnx.load(str(file))
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except Exception as error:  # protobuf, checker and shape inference raise different types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"model={file}: no valid ONNX model: {reason}") from error


def onnx_input(name: str) -> tuple[int, int]:
    """(channels, height and width) of the image.

    Raises UsageError for several inputs, an input that is not [N, C, H, W], and one that is not
    square.
    """
    graph = load_onnx(Path(name)).graph
    stored = {tensor.name for tensor in graph.initializer}
    given = [entry for entry in graph.input if entry.name not in stored]
    shapes = [[dim.dim_value for dim in entry.type.tensor_type.shape.dim] for entry in given]
    if len(given) != 1 or len(shapes[0]) != 4:
        raise UsageError(f"model={name}: takes {len(given)} inputs {shapes}, not one [N, C, H, W]")
    _, channels, high, wide = shapes[0]
    if high != wide:
        raise UsageError(f"model={name}: takes images of {high}x{wide}; only square ones run")
    if not (channels and high):
        raise UsageError(
            f"model={name}: has no fixed image size; export it for one size, such as 224"
        )
    return channels, high


def onnx_identity(name: str) -> dict[str, str]:
    """Name and content hash of the file; UsageError if it does not exist.

    The hash includes the files with external data that the model names, where PyTorch's exporter
    puts the weights.
    """
    file = Path(name)
    if not file.is_file():
        raise UsageError(f"model={name}: no such file")
    others = [(data, stamp(data)) for data in _external_data(file, stamp(file))]
    return {"onnx": file.name, "sha256": _digest((file, stamp(file)), *others)}


@cache
def _digest(first: tuple[Path, Stamp], *others: tuple[Path, Stamp]) -> str:
    content = hashlib.sha256(first[0].read_bytes())
    for data, _ in others:
        content.update(hashlib.sha256(data.read_bytes()).digest())
    return content.hexdigest()


@cache
def _external_data(file: Path, state: Stamp) -> tuple[Path, ...]:
    """The files beside ``file`` that hold weights of its model, by name."""
    load_onnx(file)  # refuses locations outside of the folder
    graph = import_onnx().load(str(file), load_external_data=False).graph
    stored = [entry for tensor in graph.initializer for entry in tensor.external_data]
    names = sorted({entry.value for entry in stored if entry.key == "location"})
    return tuple(file.parent / name for name in names)
