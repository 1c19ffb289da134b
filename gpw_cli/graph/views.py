"""Views of tensors: slices, permutations, shuffles and repetitions as one index array.

    index = moved(op.target, args, natural(shape), BATCH)   # any data-moving ATen operator
    for node in image_nodes(index, source, label): ...    # the nodes that express it

``index`` int64 [...] gives, for each element of the view for one image, its position in the flat
[C*H*W] of the underlying tensor. Operators that move values are run on it, so that a view, a
permutation and a view back become what they amount to: a channel shuffle, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpw_cli.arrays import Int64
from gpw_cli.graph.frame import Pair, Shape
from gpw_cli.graph.ir import Node, Pad
from gpw_cli.graph.moves import Select, Spread, Upsample


def natural(shape: tuple[int, ...]) -> Int64:
    """Every element at its own position."""
    return np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)


def moved(run: Callable[..., Any], args: Any, kwargs: Any, index: Int64, batch: int) -> Any:
    """``run`` on ``index`` for ``batch`` images: an int64 array, or a list of them.

    ``args`` and ``kwargs`` have ``INDEX`` in place of the tensor. None if images are mixed.
    """
    size = int(index.max(initial=0)) + 1
    whole = np.stack([index + size * image for image in range(batch)])
    given = torch.from_numpy(whole).double()  # exact, and accepted by any operator
    result = run(*_placed(args, given), **_placed(kwargs, given))
    found = []
    for part in result if isinstance(result, list | tuple) else [result]:
        array = part.contiguous().numpy().astype(np.int64)
        steps = size * np.arange(len(array)).reshape(-1, *([1] * (array.ndim - 1)))
        if len(array) != batch or (array - array[:1] != steps).any() or array[0].max() >= size:
            return None
        found.append(array[0])
    return found if isinstance(result, list | tuple) else found[0]


class _Index:
    """Stands for the index tensor among the arguments."""


INDEX = _Index()


def _placed(value: Any, whole: torch.Tensor) -> Any:
    if isinstance(value, _Index):
        return whole
    if isinstance(value, dict):
        return {key: _placed(entry, whole) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_placed(entry, whole) for entry in value]
    return value


def is_natural(index: Int64, shape: Shape) -> bool:
    """Whether the view is the tensor of ``shape`` itself, or the tensor completely flat."""
    own, full = _stripped(index.shape), _stripped(shape)
    if own not in (full, [int(np.prod(shape))]):
        return False
    return bool((index.ravel() == np.arange(index.size)).all())


def _stripped(shape: tuple[int, ...]) -> list[int]:
    sizes = list(shape)
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    return sizes


def image_nodes(index: Int64, source: Node, label: Callable[[], str]) -> list[Node] | None:
    """The nodes that compute the view of ``source`` as a tensor [C, H, W]; None if no nodes can."""
    sizes = _stripped(index.shape)
    if len(sizes) > 3:
        return None
    index = index.reshape([*sizes, 1, 1, 1][:3])
    found = _separated(index, source.shape)
    if found is None:
        return None
    channels, rows, cols = found
    made: list[Node] = []
    last = source
    if not np.array_equal(channels, np.arange(source.shape[0])):
        last = Select(label(), last.name, channels, (len(channels), *source.shape[1:]))
        made.append(last)
    if len(rows) != source.shape[1] or len(cols) != source.shape[2] or _moves(rows, cols):
        last = _spatial(last, rows, cols, label() if not made else f"{last.name}.pixels")
        made.append(last)
    return made


def _moves(rows: Int64, cols: Int64) -> bool:
    return bool((rows != np.arange(len(rows))).any() or (cols != np.arange(len(cols))).any())


def _separated(index: Int64, shape: Shape) -> tuple[Int64, Int64, Int64] | None:
    """The channel, row and column that each output channel, row and column reads."""
    _, high, wide = shape
    channels = index[:, 0, 0] // (high * wide)
    inside = index - channels[:, None, None] * (high * wide)
    rows = inside[0, :, 0] // wide
    cols = inside[0, 0] - rows[0] * wide
    same = inside == rows[:, None] * wide + cols
    return (channels, rows, cols) if same.all() and (cols >= 0).all() else None


def _spatial(source: Node, rows: Int64, cols: Int64, name: str) -> Node:
    channels, high, wide = source.shape
    shape = (channels, len(rows), len(cols))
    steps = _stride(rows, high), _stride(cols, wide)
    if steps[0] is not None and steps[1] is not None:
        return Pad(name, source.name, (steps[0], steps[1]), 0, 0, shape)
    factor = len(rows) // high, len(cols) // wide
    if all(factor) and _repeats(rows, high, factor[0]) and _repeats(cols, wide, factor[1]):
        return Upsample(name, source.name, factor, shape)
    return Spread(name, source.name, np.eye(high)[rows], np.eye(wide)[cols], shape)


def _stride(places: Int64, size: int) -> int | None:
    """The s for which ``places`` are every s-th position from 0."""
    step = int(places[1] - places[0]) if len(places) > 1 else size
    return step if step > 0 and np.array_equal(places, np.arange(0, size, step)) else None


def _repeats(places: Int64, size: int, factor: int) -> bool:
    return np.array_equal(places, np.repeat(np.arange(size), factor))


def windows(size: int, parts: int) -> tuple[Int64, Int64]:
    """(first, end) of adaptive pooling's windows."""
    number = np.arange(parts)
    return number * size // parts, -(-(number + 1) * size // parts)


def uniform(first: Int64, end: Int64) -> Pair | None:
    """(window, stride) where all windows have one size and stride, starting at 0."""
    sizes = end - first
    step = int(first[1]) if len(first) > 1 else int(sizes[0])
    same = (sizes == sizes[0]).all() and step > 0
    return (
        (int(sizes[0]), step)
        if same and np.array_equal(first, step * np.arange(len(first)))
        else None
    )


def averages(first: Int64, end: Int64, size: int) -> NDArray[np.float64]:
    """[windows, size]: the mean over each window."""
    place = np.arange(size)
    inside = (place >= first[:, None]) & (place < end[:, None])
    return inside / (end - first)[:, None]
