"""Quantizer settings, which are independent of each other; presets are in conf/quantizer.

    tvm_single   TVM's VTA flow: one activation scale for the whole network, 8-bit biases
    profile      NEST-C: one profiled scale per tensor, truncating shifts, no fusion
    nest_fused   as profile, but each convolution has the scale of its ReLU (papers/001, eq. 4)
    best         ours
    sdp          ours for NVDLA's post-processor (SDP): arbitrary scales, one per output channel

In all but sdp, every activation scale is a power of two times a common factor, so that every
rescale is a shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpw_cli.errors import UsageError

# Functional form: "global" is a keyword, and OmegaConf takes an enum member by its name.
ScaleMode = StrEnum("ScaleMode", ["global", "per_tensor"])


class Observer(StrEnum):
    """The clipping threshold of |x| that determines a scale."""

    minmax = "minmax"  # the largest value in calibration
    percentile = "percentile"
    mse = "mse"  # least squared quantization error
    kl = "kl"  # least Kullback-Leibler divergence (TensorRT, MXNet, TVM)


class PotRule(StrEnum):
    """How a scale is rounded to a power of two."""

    ceil = "ceil"
    nearest = "nearest"  # in log2
    mse = "mse"  # the power of two with the least squared error


class Rounding(StrEnum):
    """How a rescale rounds the bits that it shifts out."""

    round = "round"  # adds one half first, as TVM
    truncate = "truncate"  # floors, as NEST-C


class Residual(StrEnum):
    """How the summands of an addition that is not fused get the same scale."""

    unify = "unify"  # both tensors have one scale
    shift = "shift"  # the coarser one is shifted left


class Fusion(StrEnum):
    """Which nodes behind a convolution are fused into it."""

    none = "none"
    relu = "relu"  # convolution + ReLU (papers/001, eq. 4)
    add = "add"  # convolution + shortcut + ReLU, on the accumulators


@dataclass(frozen=True)
class QuantizerConfig:
    """Quantizer settings; part of the key of the stages quantize and fuse."""

    name: str = "best"  # the preset of conf/quantizer that the settings come from
    # global: all activations have one scale, from global_scale; per_tensor: each its own, from
    # calibration
    scale_mode: ScaleMode = ScaleMode.per_tensor
    # scale_mode global: global_scale / 2^(act_bits-1) is the scale of every activation, the image
    # included
    global_scale: float = 8.0
    # how calibration chooses the largest |x| that a scale covers: minmax the largest value seen,
    # percentile as below, mse the least squared error, kl the least Kullback-Leibler divergence
    observer: Observer = Observer.mse
    percentile: float = 99.99  # observer percentile: share of |x| within the threshold, in %
    # which power of two becomes the scale of an activation: ceil the next larger, nearest by its
    # log2, mse the one with the least squared error
    pot_rule: PotRule = PotRule.mse
    weight_pot_rule: PotRule = PotRule.mse  # the same for weights, and for 8-bit biases
    step_margin: float = 1.0  # scale = T / (2^(b-1) - margin): 1 papers/001, 0.5 NEST-C, 0 TVM
    weight_bits: int = 8  # of the codes of weights, 2 to 8
    act_bits: int = 8  # of the codes of activations, 2 to 8
    # minimum bits of the input and of the first and last weights; in scale_mode global more bits
    # for the input only widen its range
    edge_bits: int = 8
    # 32: at the accumulator's scale; 8: with its own power-of-two scale, as TVM
    bias_bits: int = 32
    # of the bits that a rescale shifts out: round adds one half first (TVM), truncate floors
    # (NEST-C)
    rounding: Rounding = Rounding.round
    # 0: a rescale is a shift; else it multiplies by a signed integer of this many bits first, and
    # scales need not be powers of two (except for weights whose sums are added to a shortcut)
    multiplier_bits: int = 0
    scale_floor: int | None = None  # no int8 scale below 2^scale_floor (NEST-C: -7)
    clip_low: int = -127  # lowest 8-bit code, -127 or -128; likewise for fewer bits
    # how the summands of an addition that is not fused get one scale: unify gives both tensors the
    # same, shift shifts the coarser one left
    residual: Residual = Residual.unify
    per_channel: bool = False  # a weight scale per output channel: a tensor-tensor shift
    # what runs on a convolution's accumulators before they are rescaled: none, its ReLU, or add:
    # the shortcut's addition and its ReLU too
    fusion: Fusion = Fusion.add
    logit_bits: int = 32  # 8, 16 or 32
    equalise: bool = True  # cross-layer equalisation before calibration (Nagel et al. 2019)
    bias_correction: bool = True  # subtract the mean weight rounding error from the biases
    wrap_last_add: bool = False  # as TVM: the last addition has no clip and wraps around
    # how many bits the output scale of a fused convolution may grow to make its upper clip
    # redundant, which saves a pass on the NPU
    headroom: int = 0
    calibration: int = 512  # training images

    def __post_init__(self) -> None:
        """Raise UsageError for the first value out of range."""
        self._among("weight_bits", range(2, 9))
        self._among("act_bits", range(2, 9))
        self._among("edge_bits", range(2, 9))
        self._among("bias_bits", (8, 32))
        self._among("clip_low", (-128, -127))
        self._among("logit_bits", (8, 16, 32))
        self._among("multiplier_bits", (0, *range(8, 17)))
        self._among("headroom", range(5))
        if self.multiplier_bits:
            self._among("bias_bits", (32,))
        self._within("global_scale", 2.0**-16, 2.0**16)
        self._within("percentile", 50, 100)
        self._within("step_margin", 0, 1)
        self._within("calibration", 1, 10**7)
        if self.scale_floor is not None:
            self._within("scale_floor", -31, 16)

    def _among(self, name: str, allowed: range | tuple[int, ...]) -> None:
        if getattr(self, name) not in allowed:
            values = ", ".join(str(value) for value in allowed)
            self._refuse(name, f"one of {values}")

    def _within(self, name: str, low: float, high: float) -> None:
        if not low <= getattr(self, name) <= high:
            self._refuse(name, f"within {low:g} .. {high:g}")

    def _refuse(self, name: str, allowed: str) -> None:
        value = getattr(self, name)
        raise UsageError(f"quantizer.{name}={value} is not {allowed}; `gpw ls` lists the presets")
