"""ONNX ``Resize`` and ``Upsample`` by repetition of pixels.

resize({"mode": b"nearest"}, x, None, np.array([1, 1, 2, 2]))       # [N, C, 2 H, 2 W]

The formulas are those of ONNX's specification of Resize; factors and modes for which they do not
repeat each pixel equally often are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from gpw_cli.errors import UnsupportedError
from gpw_cli.models.onnx_layers import Attributes, Value


def resize(attributes: Attributes, x: Tensor, *given: Value) -> Tensor:
    """``Resize`` and ``Upsample``, where they repeat each pixel a whole number of times."""
    if attributes.get("mode", b"nearest") != b"nearest":
        raise UnsupportedError(f"ONNX Resize by {attributes['mode'].decode()}; only nearest runs")
    stored = [
        np.asarray(v, np.float64) for v in given if v is not None and not isinstance(v, Tensor)
    ]
    found = [array for array in stored if array.size == 4]
    if not found and "scales" in attributes:
        found = [np.asarray(attributes["scales"], np.float64)]
    sizes = len(given) == 3  # else factors
    if not found or found[-1][1] != (x.shape[1] if sizes else 1):
        raise UnsupportedError("ONNX Resize other than by factors or sizes of N, C, H, W")
    scale = found[-1][2:] / (np.array(x.shape[2:]) if sizes else 1)
    for axis, factor in zip((2, 3), scale, strict=True):
        times = round(float(factor))
        if times < 1 or not _repeats(attributes, x.shape[axis], float(factor)):
            raise UnsupportedError(
                f"ONNX Resize by {factor:g} that does not repeat each pixel equally often"
            )
        x = x.repeat_interleave(times, axis)
    return x


def _repeats(attributes: Attributes, size: int, factor: float) -> bool:
    """Whether the pixels that ONNX takes are 0, 0, 1, 1 ... as its formulas say."""
    if not factor.is_integer():
        return False
    place = np.arange(size * int(factor))
    how = attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    start = {
        "asymmetric": place / factor,
        "half_pixel": (place + 0.5) / factor - 0.5,
        "pytorch_half_pixel": (place + 0.5) / factor - 0.5,
        "half_pixel_symmetric": (place + 0.5) / factor - 0.5,
        "align_corners": place * (size - 1) / max(1, len(place) - 1),
    }.get(how)
    nearest: dict[str, Callable[..., Any]] = {
        "round_prefer_floor": lambda at: np.ceil(at - 0.5),
        "round_prefer_ceil": lambda at: np.floor(at + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if start is None:
        return False
    taken = nearest[attributes.get("nearest_mode", b"round_prefer_floor").decode()](start)
    return bool((taken.clip(0, size - 1) == place // int(factor)).all())
