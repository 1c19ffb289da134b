"""Calibration ranges: a histogram of each tensor's magnitudes over calibration images.

    ranges = calibrate(graph, batches, cfg)      # batches: float [B, C, H, W] of training images
    ranges.tensors["layer1.0.relu1"].max_abs

A single pass over the images, each thread with a part of a batch. The upper limit of a histogram
is a power of two; when a larger value appears, the limit doubles and the bins merge in pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
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
from gpw_cli.threads import each

BINS = 8192
PART = 32  # images per thread at a time: tensors of more leave the cache between two readings
FILE = "ranges.safetensors"


@dataclass(frozen=True, eq=False)
class TensorRange:
    """counts: int64 [BINS] of |x| over [0, limit]; mean: float64 [C] per channel."""

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
        """The centre of each bin, at most the largest magnitude."""
        middle = (np.arange(BINS, dtype=np.float64) + 0.5) * np.float64(self.limit / BINS)
        return np.asarray(np.minimum(middle, self.max_abs), np.float64)


@dataclass(frozen=True, eq=False)
class Ranges:
    """The range of every tensor by name; ``images``: how many images were seen."""

    tensors: Mapping[str, TensorRange]
    images: int

    def save(self, folder: Path) -> None:
        """Write ``ranges.safetensors`` to an existing folder."""
        arrays = {"pictures": np.array([self.images])}
        for name, seen in self.tensors.items():
            arrays[f"{name}/counts"] = seen.counts
            arrays[f"{name}/range"] = np.array([seen.limit, seen.low, seen.high])
            arrays[f"{name}/mean"] = seen.mean
        save_file(arrays, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Ranges:
        """Read what ``save`` wrote; CheckpointError if it is missing or damaged."""
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
    """Ranges of every tensor of ``graph`` over the first ``cfg.calibration`` images.

    ``batches``: normalised float [B, C, H, W]. Raises DataError if there is no image, and for a
    value that is not finite.
    """
    seen: dict[str, _Histogram] = {node.name: _Histogram() for node in graph.nodes}
    count = 0
    for batch in batches:
        batch = batch[: cfg.calibration - count].float()
        count += len(batch)
        for part in each(partial(_observed, graph), torch.split(batch, PART)):
            for name, histogram in part.items():
                seen[name].join(histogram)
        if count >= cfg.calibration:
            break
    if count == 0:
        raise DataError("no calibration images: a quantizer needs at least one")
    return Ranges({name: histogram.result(count) for name, histogram in seen.items()}, count)


def _observed(graph: Graph, images: Tensor) -> dict[str, _Histogram]:
    """A histogram of every tensor for a part of a batch."""
    seen: dict[str, _Histogram] = {node.name: _Histogram() for node in graph.nodes}
    run_float(graph, images, lambda name, tensor: seen[name].add(name, tensor))
    return seen


def _flat(tensor: Tensor) -> Tensor:
    """The values of [N, C, H, W] in the order in which they lie in memory, without a copy."""
    in_memory = tensor.permute(0, 2, 3, 1)
    return (in_memory if in_memory.is_contiguous() else tensor).reshape(-1)


class _Histogram:
    """Accumulates one tensor's range over batches."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.limit, self.low, self.high = 2.0**-20, np.inf, -np.inf
        self.total: NDArray[np.float64] = np.zeros(1)
        self.pixels = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Add a batch [N, C, H, W]."""
        values = _flat(tensor)
        low, high = (float(value) for value in torch.aminmax(values))
        if not np.isfinite([low, high]).all():
            raise DataError(f"calibration: the tensor {name} holds NaN or infinity")
        self.low, self.high = min(self.low, low), max(self.high, high)
        while self.limit < max(-low, high):
            self._double()
        magnitudes = values.abs() if low < 0 else values
        bins = (magnitudes * (BINS / self.limit)).to(torch.int16)  # exact: both are powers of two
        counts = torch.bincount(bins, minlength=BINS + 1).numpy()
        self.counts = self.counts + counts[:BINS]
        self.counts[-1] += counts[BINS]  # values equal to the limit
        self.total = self.total + tensor.sum((0, 2, 3), dtype=torch.float64).numpy()
        self.pixels = tensor.shape[2] * tensor.shape[3]

    def join(self, other: _Histogram) -> None:
        """Add what ``other`` has seen; changes the limit of ``other``."""
        while self.limit < other.limit:
            self._double()
        while other.limit < self.limit:
            other._double()
        self.counts = self.counts + other.counts
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.total = self.total + other.total
        self.pixels = other.pixels

    def _double(self) -> None:
        self.limit *= 2
        if not self.pixels:  # nothing is counted yet
            return
        merged = self.counts.reshape(-1, 2).sum(1)
        self.counts = np.concatenate([merged, np.zeros_like(merged)])

    def result(self, images: int) -> TensorRange:
        """The range over ``images`` images."""
        mean = self.total / (images * self.pixels)
        return TensorRange(self.counts, self.limit, self.low, self.high, mean)


def merge(ranges: Iterable[TensorRange]) -> TensorRange:
    """The range of several tensors that share a scale, without their means."""
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
