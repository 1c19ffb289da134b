"""Integer weights, bias and shifts of a convolution.

    layer = quantize_layer(weight, bias, Scales(s_in, s_out, s_residual), bits=8, cfg=cfg)
    layer.codes, layer.bias, layer.shift, layer.residual_shift

The accumulator's scale is S_acc = S_x * S_w. S_w is chosen so that S_out / S_acc is a power of two
and the rescale is a shift. If the rescale has a multiplier, S_w is free, unless a shortcut is
added: then S_residual / S_acc is a power of two. S_w is doubled until no accumulator can overflow
int32 for any image. Small weights beside a large shortcut or bias, as pruning can leave them, then
lose bits instead of wrapping around.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Floats, Int8, Int32, Int64
from gpw_cli.config.quantizer import PotRule, QuantizerConfig, Rounding
from gpw_cli.errors import UnsupportedError
from gpw_cli.quantization.activations import UNUSED, above_floor
from gpw_cli.quantization.scales import (
    least_error,
    log2_ratio,
    mantissa,
    multiplier,
    power_of_two,
    round_half_away,
)

MAX_SHIFT = 30  # 2^(n-1) must fit an int32 beside the accumulator
INT32_LIMIT = 2**31
TRIES = 128  # doublings of a weight scale


@dataclass(frozen=True)
class Scales:
    """Scales of a convolution's tensors; ``output`` None: the logits stay accumulators."""

    input: float
    output: float | None
    residual: float | None = None


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """codes int8 [O, I, KH, KW] with scales ``steps`` [O]; bias, shifts int32 [O].

    ``scale``: of the output. ``multiplier``: int32 [O] if the rescale has one.
    """

    codes: Int8
    steps: Floats
    bias: Int32
    shift: Int32
    residual_shift: Int32 | None
    scale: float
    multiplier: Int32 | None = None


def quantize_layer(
    name: str, weight: Floats, bias: Floats, scales: Scales, bits: int, cfg: QuantizerConfig
) -> QuantizedLayer:
    """Quantize one convolution: float weight [O, I, KH, KW], bias [O].

    Raises UnsupportedError when no weight scale keeps the accumulators within 32 bits.
    """
    steps = _weight_scales(weight, _unit(scales, cfg), bits, cfg)
    for _ in range(TRIES):
        layer, bound = _at(name, weight, bias, steps, scales, bits, cfg)
        unsafe = bound >= INT32_LIMIT
        if not unsafe.any():
            return layer
        steps = np.where(unsafe | (not cfg.per_channel), steps * 2.0, steps)
    raise UnsupportedError(f"{name}: no scale keeps its sums within 32 bits ({scales})")


def corrected_bias(weight: Floats, bias: Floats, layer: QuantizedLayer, mean: Floats) -> Floats:
    """``bias`` minus the mean error of the rounded weights; ``mean`` [I]: of the input."""
    error = layer.codes * layer.steps[:, None, None, None] - weight
    return np.asarray(bias - np.einsum("oihw,i->o", error, mean))


def _unit(scales: Scales, cfg: QuantizerConfig) -> float | None:
    """The number whose multiples by 2^e are valid weight scales; None: any number is."""
    joined: float | None = scales.output or 1.0
    if cfg.multiplier_bits and scales.output is not None:
        joined = scales.residual
    return None if joined is None else mantissa(joined) / mantissa(scales.input)


def _weight_scales(weight: Floats, unit: float | None, bits: int, cfg: QuantizerConfig) -> Floats:
    """S_w [O]: one value per layer or per channel."""
    rows = np.abs(weight.reshape(len(weight), -1))
    parts = list(rows) if cfg.per_channel else [rows.ravel()]
    steps = [_weight_scale(part, unit, bits, cfg) for part in parts]
    return np.broadcast_to(np.array(steps), (len(weight),)).copy()


def _weight_scale(values: Floats, unit: float | None, bits: int, cfg: QuantizerConfig) -> float:
    largest = float(values.max())
    if largest == 0:
        return power_of_two(UNUSED, PotRule.ceil, unit or 1.0)
    step = largest / (2 ** (bits - 1) - cfg.step_margin)
    if unit is None:
        return above_floor(step, cfg, 1.0)
    if cfg.weight_pot_rule is PotRule.mse:
        scale = least_error(np.ones_like(values), values, step, 2 ** (bits - 1) - 1, unit)
    else:
        scale = power_of_two(step, cfg.weight_pot_rule, unit)
    return above_floor(scale, cfg, unit)


def _at(
    name: str,
    weight: Floats,
    bias: Floats,
    steps: Floats,
    scales: Scales,
    bits: int,
    cfg: QuantizerConfig,
) -> tuple[QuantizedLayer, Floats]:
    """The layer with weight scales ``steps`` [O], and the largest accumulator of each channel."""
    high = 2 ** (bits - 1) - 1
    low = -high - (cfg.clip_low == -128)
    codes = round_half_away(weight / steps[:, None, None, None]).clip(low, high)
    units = scales.input * steps
    output = float(units.max()) if scales.output is None else scales.output
    factor = None
    if cfg.multiplier_bits and scales.output is not None:
        factor, right = multiplier(units / output, cfg.multiplier_bits)
        shift = np.full(len(units), right, np.int32)
    else:
        shift = _shifts(output, units, name)
    integers = bias_integers(bias, units, shift, mantissa(output), cfg)
    bound = 128.0 * np.abs(codes).sum((1, 2, 3)) + np.abs(integers)
    if factor is None:  # plus the rounding term and a left shift
        bound = (bound + 2.0 ** np.maximum(shift, 0)) * 2.0 ** np.maximum(-shift, 0)
        bound = np.where(shift > MAX_SHIFT, np.inf, bound)
    residual_shift = None
    if scales.residual is not None:
        residual_shift = _shifts(scales.residual, units, name)
        bound = bound + 128.0 * 2.0 ** np.maximum(residual_shift, 0)
    wrapped = integers.clip(-INT32_LIMIT, INT32_LIMIT - 1).astype(np.int32)
    layer = QuantizedLayer(
        codes.astype(np.int8), steps, wrapped, shift, residual_shift, output, factor
    )
    return layer, bound


def _shifts(scale: float, units: Floats, name: str) -> Int32:
    return np.array([log2_ratio(scale, float(unit), name) for unit in units], np.int32)


def bias_integers(
    bias: Floats, units: Floats, shift: Int32, factor: float, cfg: QuantizerConfig
) -> Int64:
    """The bias at the accumulators' ``units`` [O], before the rescale by ``shift`` [O].

    With 8 bits, as TVM: q = clip(round(b / s_b), +-127), s_b a power of two (times ``factor``) per
    layer. If s_b >= unit, q is shifted left. If s_b is finer by k bits, TVM shifts the accumulator
    left and rescales by n + k. Shifting q right by k bits gives the same result, since
    floor(floor(x / a) / b) = floor(x / (a * b)) and 2^(n+k-1) is divisible by 2^k for n >= 1; for
    n < 1 the rounding term is added first.
    """
    if cfg.bias_bits == 32:
        return round_half_away(np.clip(bias / units, -(2.0**40), 2.0**40))
    if not bias.any():
        return np.zeros(len(bias), np.int64)
    scale = _weight_scale(np.abs(bias), factor, 8, cfg)
    codes = round_half_away(bias / scale).clip(-127, 127)
    up = _shifts(scale, units, "bias").astype(np.int64)
    down = np.maximum(-up, 0)
    half = (cfg.rounding is Rounding.round) & (shift < 1) & (down > 0)
    term = np.where(half, 1 << np.maximum(down - 1, 0), 0)
    return np.where(up >= 0, codes << np.clip(up, 0, 40), (codes + term) >> down)
