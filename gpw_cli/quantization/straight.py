"""The arithmetic of the integer network in float32, with straight-through gradients.

    acc = convolved(x, coded(weight, codes, step), coded(bias, integers, unit), window, fast=True)
    x = rescaled(acc, node.rescale, relu=node.relu)

Tensors hold the integers of graph/integer.py as float32, which is exact below 2^24. The gradient
passes a rounding unchanged, and passes a clip where the clip changes nothing (Bengio et al. 2013).
A ReLU is a clip at 0 after rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from gpw_cli.graph import integer
from gpw_cli.graph.frame import Pair
from gpw_cli.graph.integer import (
    FULL_RANGE,
    IntConcat,
    IntNode,
    IntSelect,
    IntUpsample,
    Rescale,
    Shift,
)

Factor = float | Tensor


class _Coded(Function):
    """Forward: ``codes``. Backward: the gradient of value / unit."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, codes: Tensor, unit: Tensor) -> Tensor:
        """``codes``, independent of ``value``."""
        ctx.save_for_backward(unit)
        return codes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of ``value``."""
        (unit,) = ctx.saved_tensors
        return grads[0] / unit, None, None


def coded(value: Tensor, codes: NDArray[Any], unit: Tensor) -> Tensor:
    """The integers ``codes`` of ``value``, whose gradient is theirs divided by ``unit``.

    ``unit``: the scale of the codes; it broadcasts to ``value``.
    """
    made: Tensor = _Coded.apply(value, torch.from_numpy(codes).to(value), unit)  # type: ignore[no-untyped-call]
    return made


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor, window: tuple[Pair, Pair], *, fast: bool
) -> Tensor:
    """The accumulators of a convolution, float32 [N, O, H, W]; ``window``: stride and padding.

    fast: compute the backward pass in bf16, as under autocast. Codes of 8 bits are exact in bf16,
    so only the incoming gradient is rounded.
    """
    made: Tensor = _Convolved.apply(x, weight, bias, *window, fast)  # type: ignore[no-untyped-call]
    return made


class _Convolved(Function):
    """A convolution of integers with an exact forward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: Pair, padding: Pair, fast: bool
    ) -> Tensor:
        """[N, O, H, W] in float32."""
        kept = torch.bfloat16 if fast else x.dtype
        ctx.save_for_backward(x.to(kept), weight.to(kept))
        ctx.window = (stride, padding)
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        stride, padding = ctx.window
        wanted = (ctx.needs_input_grad[0], True, False)
        dx, dw, _ = torch.ops.aten.convolution_backward(
            grads[0].to(x.dtype), x, weight, None, stride, padding, (1, 1), False, (0, 0), 1, wanted
        )
        bias = grads[0].sum((0, 2, 3))
        return None if dx is None else dx.float(), dw.float(), bias, None, None, None


class _Rescaled(Function):
    """clip(floor(acc * factor + half), low, high); ``half`` is 0 or 1/2."""

    @staticmethod
    def forward(ctx: Any, acc: Tensor, half: Factor, factor: Factor, low: int, high: int) -> Tensor:
        exact = (acc * factor).add_(half).floor_()
        out = exact.clamp(low, high)
        ctx.save_for_backward(out == exact)
        ctx.factor = factor
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (passes,) = ctx.saved_tensors
        return (grads[0] * ctx.factor).mul_(passes), None, None, None, None


def rescaled(acc: Tensor, rescale: Rescale, *, relu: bool = False, bits: int = 8) -> Tensor:
    """ReLU and ``rescale`` of [N, C, H, W], stored in ``bits`` bits."""
    shift = np.asarray(rescale.shift)
    half = np.where(shift > 0, 0.5, 0.0) if rescale.rounding else np.zeros(())
    low = max(rescale.low, 0) if relu else rescale.low
    out: Tensor = _Rescaled.apply(  # type: ignore[no-untyped-call]
        acc, _factor(acc, half), _factor(acc, 2.0**-shift), low, rescale.high
    )
    if rescale.clips or bits == 32:
        return out
    span = float(2**bits)
    return out - span * torch.floor((out + span / 2) / span).detach()


def shifted_left(x: Tensor, shift: Shift) -> Tensor:
    """A shortcut at the accumulator's scale: ``x << shift``, rounded for a right shift."""
    if np.min(shift) >= 0:
        return x * _factor(x, 2.0 ** np.asarray(shift))
    return rescaled(x, Rescale(-np.asarray(shift), True, *FULL_RANGE), bits=32)


def _factor(x: Tensor, values: Any) -> Factor:
    """A number, or a tensor per channel that broadcasts to [N, C, H, W]."""
    if values.ndim == 0:
        return float(values)
    return torch.as_tensor(values).to(x)[:, None, None]


def input_codes(node: integer.IntInput, x: Tensor) -> Tensor:
    """The codes of images [N, C, H, W], as the host quantizes them (reference.py)."""
    scaled = x * (1.0 / node.scale)
    return (torch.sign(scaled) * torch.floor(scaled.abs() + 0.5)).clamp(node.low, node.high)


def step(node: IntNode, tensors: dict[str, Tensor]) -> Tensor:
    """The output of a node without weights for ``tensors`` [N, C, H, W]."""
    if isinstance(node, integer.IntAdd):
        acc = shifted_left(tensors[node.a], node.shift_a)
        return rescaled(
            acc + shifted_left(tensors[node.b], node.shift_b), node.rescale, relu=node.relu
        )
    if isinstance(node, IntConcat):
        return torch.cat([tensors[part] for part in node.parts], 1)
    x = tensors[node.inputs[0]]
    if isinstance(node, integer.IntRelu):
        return rescaled(x, node.rescale, relu=True)
    if isinstance(node, integer.IntMaxPool):
        x = F.pad(x, (0, node.after[1], 0, node.after[0]), value=-128.0)
        return F.max_pool2d(x, node.kernel, node.stride, node.padding)
    if isinstance(node, integer.IntAvgPool):
        total = F.avg_pool2d(x, node.kernel, node.stride, node.padding, divisor_override=1)
        return rescaled(total, node.rescale)
    return _moved(node, x)


def _moved(node: IntNode, x: Tensor) -> Tensor:
    """The output of a node that only moves codes."""
    if isinstance(node, IntSelect):
        return x[:, torch.from_numpy(node.channels).to(x.device)]
    if isinstance(node, IntUpsample):
        return x.repeat_interleave(node.factor[0], 2).repeat_interleave(node.factor[1], 3)
    assert isinstance(node, integer.IntPad)
    sampled = x[:, :, :: node.stride[0], :: node.stride[1]]
    return F.pad(sampled, (0, 0, 0, 0, node.before, node.after))
