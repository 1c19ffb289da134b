"""Saliency and score of groups; the groups with the smallest scores are pruned first.

    saliency = group_saliency(Criterion.l1, layout, weight)       # float64, shape layout.grid
    scores = group_scores(Criterion.l1, layout, saliency)         # the same shape

The saliency of a set of groups is the sum of theirs; budget.py weighs it against cycles. The score
divides it by the number n of *real* weights, which makes ragged edge groups comparable and, in
scope ``global``, groups of layers with other kernel sizes:

    l1       sum(|w|); score: mean magnitude (Li et al. 2016; papers/000, 2.2.3)
    l2       sum(w * w); score: root mean square
    taylor   mean over batches of (sum of gradient * weight)^2, the squared first-order change of
             the loss without the group (Molchanov et al. 2019); score: the same per weight

For groups of a single weight, l1 and l2 give the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpw_cli.arrays import Floats
from gpw_cli.errors import UsageError
from gpw_cli.plugins import Open
from gpw_cli.pruning.groups import GroupLayout


def _sum(rows: Floats) -> Floats:
    # Row by row: the order of NumPy's reductions depends on memory layout and vector width, and
    # changes the last bit, which decides ties.
    total = np.zeros(rows.shape[1:])
    for row in rows:
        total += row
    return total


def _mean_squared_sum(batches: Iterable[Floats]) -> Floats:
    squares = [np.square(_sum(rows)) for rows in batches]
    return _sum(np.stack(squares)) / len(squares)


Saliency = Callable[[Iterable[Floats]], Floats]
Score = Callable[[Floats, npt.NDArray[np.int64]], Floats]


@dataclass(frozen=True)
class Scoring:
    """The definition of a criterion, built in or of a plug-in.

    ``saliency``: from the values of a group along axis 0, an array per batch; ``score``: per
    weight, from the saliency and the number of real weights. ``gradients``: the values are gradient
    times weight over batches of training images; otherwise the only "batch" is the weights.
    """

    saliency: Saliency
    score: Score = np.divide
    gradients: bool = False


class Criterion(Open):
    """The criterion of a score; a new one is a line here, or a plug-in (docs/plugins.md)."""

    l1 = "l1", Scoring(lambda rows: _sum(np.abs(next(iter(rows)))))
    l2 = (
        "l2",
        Scoring(
            lambda rows: _sum(np.square(next(iter(rows)))),
            lambda total, real: np.sqrt(total / real),
        ),
    )
    taylor = "taylor", Scoring(_mean_squared_sum, gradients=True)

    @property
    def scoring(self) -> Scoring:
        """The definition. Raises UsageError for a plug-in that cannot be loaded."""
        return self.definition(Scoring)

    @property
    def gradients(self) -> bool:
        """Whether the criterion needs gradients."""
        return self.scoring.gradients


def group_saliency(
    criterion: Criterion, layout: GroupLayout, *values: npt.NDArray[np.floating]
) -> Floats:
    """The saliency of all groups: float64 of shape ``layout.grid``.

    ``values``: the weight [O, I, KH, KW] or, for a gradient criterion, gradient times weight of
    that shape for each batch. Sums are float64 in a fixed order, so the same values give the same
    bits on every machine.
    """
    found = criterion.scoring.saliency(layout.collect(value) for value in values)
    return _checked(criterion, "saliency", found, layout)


def group_scores(criterion: Criterion, layout: GroupLayout, saliency: Floats) -> Floats:
    """``saliency`` normalised by the size of the groups, in the same shape."""
    found = criterion.scoring.score(saliency, layout.real_weights())
    return _checked(criterion, "score", found, layout)


def _checked(criterion: Criterion, what: str, found: Floats, layout: GroupLayout) -> Floats:
    """Check the numbers of a plug-in; UsageError if they are invalid."""
    if criterion.plugin is None:
        return found
    array = np.asarray(found)
    if array.shape != layout.grid or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise UsageError(
            f"{criterion.plugin}: {what} is {array.dtype} {list(array.shape)}, expected finite "
            f"numbers {list(layout.grid)}, one a group"
        )
    return array.astype(np.float64)
