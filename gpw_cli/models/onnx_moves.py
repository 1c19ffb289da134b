"""ONNX operators that only move values, of tensors or, for shapes, of NumPy arrays.

    MOVES["Reshape"]({}, x, np.array([0, -1]))

``argument`` and ``numbers`` read what older operator sets give as attributes and newer as inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpw_cli.errors import UnsupportedError
from gpw_cli.models.onnx_file import import_onnx
from gpw_cli.models.onnx_layers import Attributes, Value


def rank_of(value: Value) -> int:
    """The number of dimensions."""
    return value.ndim if isinstance(value, Tensor) else np.asarray(value).ndim


def numbers(value: Value) -> list[int]:
    """The integers of a shape or axes; UnsupportedError if they depend on the image."""
    if isinstance(value, Tensor):
        raise UnsupportedError("ONNX: a shape that depends on the image")
    return [] if value is None else [int(entry) for entry in np.asarray(value).reshape(-1)]


def argument(attributes: Attributes, name: str, value: Value) -> list[int] | None:
    """An argument that is an input in newer operator sets and an attribute in older ones."""
    if value is not None:
        return numbers(value)
    return [int(entry) for entry in attributes[name]] if name in attributes else None


def _reshape(attributes: Attributes, x: Value, shape: Value = None) -> Value:
    if not isinstance(x, Tensor):
        return np.asarray(x).reshape(numbers(shape))
    sizes = argument(attributes, "shape", shape) or []
    full = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    # The batch of the export must not fix the batch size.
    if full and full[0] in (1, attributes.get("batch")) and x.shape[0] != full[0]:
        full[0] = x.shape[0]
    return x.reshape(full)


def _axes(attributes: Attributes, value: Value, rank: int) -> list[int]:
    return sorted(axis % rank for axis in argument(attributes, "axes", value) or [])


def _unsqueeze(attributes: Attributes, x: Value, axes: Value = None) -> Value:
    rank = rank_of(x)
    many = len(argument(attributes, "axes", axes) or [])
    for axis in _axes(attributes, axes, rank + many):
        x = x.unsqueeze(axis) if isinstance(x, Tensor) else np.expand_dims(np.asarray(x), axis)
    return x


def _squeeze(attributes: Attributes, x: Value, axes: Value = None) -> Value:
    rank = rank_of(x)
    for axis in reversed(_axes(attributes, axes, rank)):
        x = x.squeeze(axis) if isinstance(x, Tensor) else np.squeeze(np.asarray(x), axis)
    return x


def _slice(attributes: Attributes, x: Value, *given: Value) -> Value:
    starts, ends, axes, steps = (
        argument(attributes, name, value)
        for name, value in zip(
            ("starts", "ends", "axes", "steps"), [*given, *[None] * 4][:4], strict=True
        )
    )
    assert starts is not None
    assert ends is not None
    axes = axes if axes is not None else list(range(len(starts)))
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        size = int(x.shape[axis] if isinstance(x, Tensor) else np.asarray(x).shape[axis])
        first = start + size if start < 0 else start
        last = end + size if end < 0 else end
        low, high = (0, size) if step > 0 else (-1, size - 1)
        x = _taken(x, axis, range(min(max(first, low), high), min(max(last, low), high), step))
    return x


def _taken(x: Value, axis: int, where: range) -> Value:
    if not isinstance(x, Tensor):
        return np.take(np.asarray(x), list(where), axis)
    if where.step > 0:
        return x[(slice(None),) * (axis % x.ndim) + (slice(where.start, where.stop, where.step),)]
    return torch.index_select(x, axis, torch.tensor(list(where)))


def _split(attributes: Attributes, x: Tensor, sizes: Value = None) -> list[Tensor]:
    axis = int(attributes.get("axis", 0))
    found = argument(attributes, "split", sizes)
    if found is None:  # the last part may be smaller
        size, parts = x.shape[axis], int(attributes["outputs"])
        part = -(-size // parts)
        found = [max(0, min(part, size - n * part)) for n in range(parts)]
    return list(torch.split(x, found, axis))


def _gather(attributes: Attributes, x: Value, index: Value) -> Value:
    axis = int(attributes.get("axis", 0))
    if isinstance(x, Tensor):
        chosen = torch.from_numpy(np.asarray(index, np.int64) % x.shape[axis]).reshape(-1)
        picked = torch.index_select(x, axis, chosen)
        return picked if rank_of(index) else picked.squeeze(axis)
    return np.take(np.asarray(x), np.asarray(index, np.int64), axis)


def _concat(attributes: Attributes, *parts: Value) -> Value:
    axis = int(attributes["axis"])
    if isinstance(parts[0], Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)], axis)
    return np.concatenate([np.asarray(part) for part in parts], axis)


def _transpose(attributes: Attributes, x: Value) -> Value:
    axes = attributes.get("perm") or range(rank_of(x))[::-1]
    if isinstance(x, Tensor):
        return x.permute(*axes)
    return np.transpose(np.asarray(x), tuple(axes))


def _constant_of_shape(attributes: Attributes, shape: Value) -> NDArray[Any]:
    """``ConstantOfShape``, which exporters use to write paddings."""
    value = attributes.get("value")
    number = (
        np.zeros(1, np.float32) if value is None else import_onnx().numpy_helper.to_array(value)
    )
    return np.full(numbers(shape), number.reshape(-1)[0], number.dtype)


MOVES: dict[str, Callable[..., Any]] = {
    "Concat": _concat,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "ConstantOfShape": _constant_of_shape,
    "Flatten": lambda attributes, x: torch.flatten(x, int(attributes.get("axis", 1))),
    "Shape": lambda attributes, x: np.array(x.shape, np.int64),
}
