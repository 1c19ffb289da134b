"""ONNX operators without weights, as functions of tensors or, for shapes, of NumPy arrays.

    OPERATORS["MaxPool"]({"kernel_shape": [3, 3], "strides": [2, 2]}, x)

Shapes that the network computes are NumPy arrays, so ``torch.export`` sees constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gpw_cli.errors import UnsupportedError
from gpw_cli.models.onnx_layers import Attributes, Value, padding
from gpw_cli.models.onnx_moves import MOVES, argument, numbers
from gpw_cli.models.onnx_resize import resize

FLOATS, INTEGERS = (1, 10, 11, 16), (6, 7)  # TensorProto: float32, 16, 64, bfloat16; int32, int64


def _window(attributes: Attributes) -> tuple[tuple[int, int], tuple[int, int], Any]:
    kernel = (int(attributes["kernel_shape"][0]), int(attributes["kernel_shape"][1]))
    first, second = attributes.get("strides", [1, 1])
    stride = (int(first), int(second))
    return kernel, stride, padding(attributes, kernel, stride)


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    kernel, stride, (top, left, bottom, right) = _window(attributes)
    if list(attributes.get("dilations", [1, 1])) != [1, 1]:
        raise UnsupportedError("ONNX MaxPool that is dilated")
    around: tuple[int, int] = (top, left)
    if (top, left) != (bottom, right):
        # same as ceil_mode if every window starts within the image
        raise UnsupportedError(f"ONNX MaxPool with uneven pads {[top, left, bottom, right]}")
    return F.max_pool2d(x, kernel, stride, around, ceil_mode=bool(attributes.get("ceil_mode", 0)))


def _average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    kernel, stride, (top, left, bottom, right) = _window(attributes)
    if (top, left) != (bottom, right):
        raise UnsupportedError(f"ONNX AveragePool with uneven pads {[top, left, bottom, right]}")
    ceil, counted = (bool(attributes.get(n, 0)) for n in ("ceil_mode", "count_include_pad"))
    return F.avg_pool2d(x, kernel, stride, (top, left), ceil, counted or (top, left) == (0, 0))


def _clip(attributes: Attributes, x: Tensor, low: Value = None, high: Value = None) -> Tensor:
    ends = [attributes.get("min") if low is None else float(np.asarray(low).reshape(-1)[0])]
    ends += [attributes.get("max") if high is None else float(np.asarray(high).reshape(-1)[0])]
    return torch.clamp(x, ends[0], ends[1])


def _binary(run: Callable[..., Any]) -> Callable[..., Value]:
    def compute(attributes: Attributes, a: Value, b: Value) -> Value:
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            pair = [x if isinstance(x, Tensor) else torch.from_numpy(np.asarray(x)) for x in (a, b)]
            result: Tensor = run(*pair)
            return result
        found = np.asarray(run(a, b))
        both = np.issubdtype(np.asarray(a).dtype, np.integer)
        return found.astype(np.int64) if both else found  # ONNX division of integers gives integers

    return compute


def _sum(attributes: Attributes, *parts: Tensor) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = OPERATORS["Add"](attributes, total, part)
    return total


def _limit(run: Callable[[Tensor, float], Tensor], kind: str) -> Callable[..., Tensor]:
    """``Min`` or ``Max`` of a tensor and numbers."""

    def compute(attributes: Attributes, *parts: Value) -> Tensor:
        images = [part for part in parts if isinstance(part, Tensor)]
        numbers = [np.asarray(part) for part in parts if not isinstance(part, Tensor)]
        if len(images) != 1 or any(number.size != 1 for number in numbers):
            raise UnsupportedError(f"ONNX {kind} of several tensors; only of one and a number")
        x = images[0]
        for number in numbers:
            x = run(x, float(number.reshape(-1)[0]))
        return x

    return compute


def _pad(
    attributes: Attributes,
    x: Tensor,
    pads: Value = None,
    value: Value = None,
    axes: Value = None,
) -> Tensor:
    found = argument(attributes, "pads", pads) or []
    given = range(x.ndim) if axes is None else [axis % x.ndim for axis in numbers(axes)]
    half = len(found) // 2
    sides = dict(zip(given, zip(found[:half], found[half:], strict=True), strict=True))
    order = [side for axis in reversed(range(x.ndim)) for side in sides.get(axis, (0, 0))]
    mode = attributes.get("mode", b"constant").decode()
    fill = 0.0 if value is None else float(np.asarray(value).reshape(-1)[0])
    return F.pad(x, order, mode, fill) if mode == "constant" else F.pad(x, order, mode)


def _mean(attributes: Attributes, x: Tensor, axes: Value = None) -> Tensor:
    dims = argument(attributes, "axes", axes)
    return x.mean(dims, keepdim=bool(attributes.get("keepdims", 1)))


def _cast(attributes: Attributes, x: Value) -> Value:
    to = int(attributes["to"])
    if not isinstance(x, Tensor):
        return np.asarray(x).astype(np.int64 if to in INTEGERS else np.float32)
    if to not in FLOATS:
        raise UnsupportedError(f"ONNX Cast of a computed tensor to type {to}, no float")
    return x


OPERATORS: dict[str, Callable[..., Any]] = {
    **MOVES,
    "Add": _binary(lambda a, b: a + b),
    "Sub": _binary(lambda a, b: a - b),
    "Mul": _binary(lambda a, b: a * b),
    "Div": _binary(lambda a, b: a / b),
    "Sum": _sum,
    "Neg": lambda attributes, x: x * -1.0,
    "Min": _limit(lambda x, number: torch.clamp(x, max=number), "Min"),
    "Max": _limit(lambda x, number: torch.clamp(x, min=number), "Max"),
    "Softmax": lambda attributes, x: torch.softmax(x, int(attributes.get("axis", -1))),
    "Relu": lambda attributes, x: F.relu(x),
    "Clip": _clip,
    "Sigmoid": lambda attributes, x: torch.sigmoid(x),
    "HardSwish": lambda attributes, x: F.hardswish(x),
    "HardSigmoid": lambda attributes, x: torch.clamp(
        x * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5), 0, 1
    ),
    "LeakyRelu": lambda attributes, x: F.leaky_relu(x, attributes.get("alpha", 0.01)),
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda attributes, x: F.adaptive_avg_pool2d(x, 1),
    "GlobalMaxPool": lambda attributes, x: F.adaptive_max_pool2d(x, 1),
    "ReduceMean": _mean,
    "Pad": _pad,
    "Resize": resize,
    "Upsample": resize,
    "Cast": _cast,
    "Identity": lambda attributes, x: x,
    "Dropout": lambda attributes, x, *rest: x,
}
