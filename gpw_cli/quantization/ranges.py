"""What values each tensor takes: a histogram of magnitudes over calibration pictures, in float.

    ranges = calibrate(graph, batches, cfg)      # batches: float [B, C, H, W] of training pictures
    ranges.tensors["layer1.0.relu1"].max_abs

One pass: the histogram's limit is a power of two that doubles when a larger value appears, and the
bins then merge in pairs, so the result does not depend on a first pass for the maximum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from gpw_cli.config.quantizer import QuantizerConfig
from gpw_cli.errors import CheckpointError, DataError
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.ir import Graph

BINS = 8192
FILE = "ranges.safetensors"


@dataclass(frozen=True, eq=False)
class TensorRange:
    """counts int64 [BINS] of |x| over [0, limit]; extremes; mean float64 [C] a channel."""

    counts: NDArray[np.int64]
    limit: float
    low: float
    high: float
    mean: NDArray[np.float64]

    @property
    def max_abs(self) -> float:
        """The largest magnitude seen."""
        return max(-self.low, self.high)

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of each bin, the last ones cut at the largest magnitude."""
        middle = (np.arange(BINS, dtype=np.float64) + 0.5) * np.float64(self.limit / BINS)
        return np.asarray(np.minimum(middle, self.max_abs), np.float64)


@dataclass(frozen=True, eq=False)
class Ranges:
    """Every tensor's range by name, and over how many pictures."""

    tensors: Mapping[str, TensorRange]
    pictures: int

    def save(self, folder: Path) -> None:
        """``ranges.safetensors`` in an existing folder."""
        arrays = {"pictures": np.array([self.pictures])}
        for name, seen in self.tensors.items():
            arrays[f"{name}/counts"] = seen.counts
            arrays[f"{name}/range"] = np.array([seen.limit, seen.low, seen.high])
            arrays[f"{name}/mean"] = seen.mean
        save_file(arrays, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Ranges:
        """What ``save`` left; CheckpointError where it is absent or damaged."""
        try:
            arrays = load_file(folder / FILE)
            names = [key.removesuffix("/counts") for key in arrays if key.endswith("/counts")]
            return cls({name: _loaded(arrays, name) for name in names}, int(arrays["pictures"][0]))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{folder / FILE} holds no calibration ranges ({error}); quantize again"
            ) from error


def _loaded(arrays: Mapping[str, NDArray[Any]], name: str) -> TensorRange:
    limit, low, high = (float(value) for value in arrays[f"{name}/range"])
    return TensorRange(arrays[f"{name}/counts"], limit, low, high, arrays[f"{name}/mean"])


def calibrate(graph: Graph, batches: Iterable[Tensor], cfg: QuantizerConfig) -> Ranges:
    """Ranges of every tensor of ``graph`` over the first ``cfg.calibration`` pictures.

    ``batches``: normalised float [B, C, H, W]. DataError: not one picture, or a value that is not
    finite.
    """
    seen: dict[str, _Histogram] = {node.name: _Histogram() for node in graph.nodes}
    count = 0
    for batch in batches:
        batch = batch[: cfg.calibration - count].float()
        count += len(batch)
        run_float(graph, batch, lambda name, tensor: seen[name].add(name, tensor))
        if count >= cfg.calibration:
            break
    if count == 0:
        raise DataError("no calibration pictures: a quantizer needs at least one")
    return Ranges({name: histogram.result(count) for name, histogram in seen.items()}, count)


class _Histogram:
    """Accumulates one tensor's range over batches."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.limit, self.low, self.high = 2.0**-20, np.inf, -np.inf
        self.total: NDArray[np.float64] = np.zeros(1)
        self.pixels = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """[N, C, H, W] of one batch."""
        low, high = (float(value) for value in torch.aminmax(tensor))
        if not np.isfinite([low, high]).all():
            raise DataError(f"calibration: the tensor {name} holds NaN or infinity")
        self.low, self.high = min(self.low, low), max(self.high, high)
        while self.limit < max(-low, high):
            self._double()
        counts = torch.histc(tensor.abs(), BINS, 0.0, self.limit)
        self.counts = self.counts + counts.long().numpy()
        self.total = self.total + tensor.sum((0, 2, 3), dtype=torch.float64).numpy()
        self.pixels = tensor.shape[2] * tensor.shape[3]

    def _double(self) -> None:
        self.limit *= 2
        merged = self.counts.reshape(-1, 2).sum(1)
        self.counts = np.concatenate([merged, np.zeros_like(merged)])

    def result(self, pictures: int) -> TensorRange:
        """What was seen over ``pictures`` pictures."""
        mean = self.total / (pictures * self.pixels)
        return TensorRange(self.counts, self.limit, self.low, self.high, mean)


def merge(ranges: Iterable[TensorRange]) -> TensorRange:
    """The range of several tensors that share one scale (their means are dropped)."""
    parts = list(ranges)
    limit = max(part.limit for part in parts)
    counts = np.zeros(BINS, np.int64)
    for part in parts:
        fold = round(limit / part.limit)
        if fold <= BINS:
            counts[: BINS // fold] += part.counts.reshape(-1, fold).sum(1)
        else:
            counts[0] += part.counts.sum()
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    return TensorRange(counts, limit, low, high, np.zeros(0))
