"""Group saliency and score: how much a group matters; the smallest scores are pruned first.

    saliency = group_saliency(Criterion.l1, layout, weight)       # float64, shape layout.grid
    scores = group_scores(Criterion.l1, layout, saliency)         # the same shape

Saliency adds up over groups: a knapsack weighs it against cycles (budget.py). A score divides it by
the number n of *real* weights, so that ragged edge groups (and, in scope ``global``, groups of
layers with other kernel sizes) compare fairly:

    l1       sum(|w|); score: mean magnitude (Li et al. 2016; papers/000, 2.2.3)
    l2       sum(w * w); score: root mean square
    taylor   mean over batches of (sum of gradient * weight)^2, the squared first-order change of
             the loss without the group (Molchanov et al. 2019); score: the same a weight

On groups of one weight l1 and l2 order alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpw_cli.errors import UsageError
from gpw_cli.plugins import Open
from gpw_cli.pruning.groups import Floats, GroupLayout


def _sum(rows: Floats) -> Floats:
    # Row by row: NumPy's own reductions choose their order by memory layout and vector width, and
    # the order decides the last bit, hence ties.
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
    """What a criterion is, of ours and of plug-ins.

    ``saliency``: from a group's values along axis 0, one array a batch; ``score``: the same a
    weight, from the saliency and the number of real weights. ``gradients``: the values are gradient
    x weight over batches of training pictures; else there is one "batch", the weights themselves.
    """

    saliency: Saliency
    score: Score = np.divide
    gradients: bool = False


class Criterion(Open):
    """What scores a group; a new criterion is a line here, or a plug-in (docs/plugins.md)."""

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
        """Its definition. Raises UsageError for a plug-in that cannot be loaded."""
        return self.definition(Scoring)

    @property
    def gradients(self) -> bool:
        """Whether it takes gradients."""
        return self.scoring.gradients


def group_saliency(
    criterion: Criterion, layout: GroupLayout, *values: npt.NDArray[np.floating]
) -> Floats:
    """Saliency of every group: float64 of shape ``layout.grid``.

    ``values``: the weight [O, I, KH, KW], or gradient x weight of that shape for each batch where
    the criterion takes gradients. Sums are float64 in one fixed order: the same values give the
    same bits on every machine.
    """
    found = criterion.scoring.saliency(layout.collect(value) for value in values)
    return _checked(criterion, "saliency", found, layout)


def group_scores(criterion: Criterion, layout: GroupLayout, saliency: Floats) -> Floats:
    """``saliency`` made comparable between groups of different sizes, in the same shape."""
    found = criterion.scoring.score(saliency, layout.real_weights())
    return _checked(criterion, "score", found, layout)


def _checked(criterion: Criterion, what: str, found: Floats, layout: GroupLayout) -> Floats:
    """A plug-in's numbers as ours are, or UsageError."""
    if criterion.plugin is None:
        return found
    array = np.asarray(found)
    if array.shape != layout.grid or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise UsageError(
            f"{criterion.plugin}: {what} is {array.dtype} {list(array.shape)}, expected finite "
            f"numbers {list(layout.grid)}, one a group"
        )
    return array.astype(np.float64)
