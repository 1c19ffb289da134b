"""The clipping threshold T of a tensor.

    threshold(Observer.percentile, seen, bits=8, percentile=99.99)

Values above T are clipped to the largest code. ``minmax`` is eq. 1 of papers/001; ``kl`` is the
entropy calibration of TensorRT (Migacz 2017), which MXNet and TVM also use, on magnitudes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpw_cli.arrays import Floats
from gpw_cli.config.quantizer import Observer
from gpw_cli.quantization.ranges import BINS, TensorRange

KL_BINS = 2048
CANDIDATES = 100


def threshold(observer: Observer, seen: TensorRange, bits: int, percentile: float) -> float:
    """T, positive and at most the largest magnitude seen; 0 for a tensor of zeros."""
    if seen.max_abs == 0:
        return 0.0
    return float(TABLE[observer](seen, bits, percentile))


def squared_error(counts: Floats, values: Floats, step: float, top: int) -> float:
    """Sum of counts * (x - q(x))^2, q(x) = step * min(round(x / step), top), x >= 0."""
    codes = np.minimum(np.floor(values / step + 0.5), top)
    return float(np.dot(counts, np.square(values - codes * step)))


def _minmax(seen: TensorRange, bits: int, percentile: float) -> float:
    return seen.max_abs


def _percentile(seen: TensorRange, bits: int, percentile: float) -> float:
    """The upper edge of the first bin that reaches this share of the values."""
    share = np.cumsum(seen.counts) / seen.counts.sum()
    edge = int(np.searchsorted(share, percentile / 100.0)) + 1
    return float(min(edge * seen.limit / BINS, seen.max_abs))


def _mse(seen: TensorRange, bits: int, percentile: float) -> float:
    top = 2 ** (bits - 1) - 1
    counts, values = seen.counts.astype(np.float64), seen.centres
    candidates = seen.max_abs * np.arange(1, CANDIDATES + 1) / CANDIDATES
    errors = [squared_error(counts, values, float(t) / top, top) for t in candidates]
    return float(candidates[int(np.argmin(errors))])


def _kl(seen: TensorRange, bits: int, percentile: float) -> float:
    levels = 2 ** (bits - 1)
    counts = seen.counts.reshape(KL_BINS, -1).sum(1).astype(np.float64)
    counts[0] = 0.0  # zeros, about half of a ReLU's output, would dominate the divergence
    last = int(np.ceil(seen.max_abs / seen.limit * KL_BINS))
    ends = sorted({*range(levels, last, 16), max(last, 1)})
    divergences = [_divergence(counts, end, levels) for end in ends]
    end = ends[int(np.argmin(divergences))]
    return float(min(end * seen.limit / KL_BINS, seen.max_abs))


def _divergence(counts: Floats, end: int, levels: int) -> float:
    """KL(P || Q). P: the first ``end`` bins, the rest added to the last; Q: P in ``levels``."""
    p = counts[:end].copy()
    q = _quantized(p, min(levels, end))
    p[-1] += counts[end:].sum()
    if p.sum() == 0 or q.sum() == 0:
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    used = p > 0
    return float(np.sum(p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))))


def _quantized(p: Floats, levels: int) -> Floats:
    """``p`` in ``levels`` runs of bins, each replaced by the mean of its non-empty bins."""
    starts = (np.arange(levels) * len(p)) // levels
    sizes = np.diff(np.append(starts, len(p)))
    filled = np.maximum(np.add.reduceat((p > 0).astype(np.float64), starts), 1.0)
    mean = np.add.reduceat(p, starts) / filled
    return np.where(p > 0, np.repeat(mean, sizes), 0.0)


TABLE: dict[Observer, Callable[[TensorRange, int, float], float]] = {
    Observer.minmax: _minmax,
    Observer.percentile: _percentile,
    Observer.mse: _mse,
    Observer.kl: _kl,
}
