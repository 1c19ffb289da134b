"""Group scores: how much a group matters; the smallest scores are pruned first.

    scores = group_scores("l1", layout, weight)       # float64, shape layout.grid

Both norms are normalised by the number n of *real* weights, so that ragged edge groups (and, in
scope ``global``, groups of layers with other kernel sizes) compare fairly:

    l1   sum(|w|) / n             mean magnitude (Li et al. 2016; papers/000, section 2.2.3)
    l2   sqrt(sum(w * w) / n)     root mean square

On groups of one weight the two order alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from gpw_cli.errors import UsageError
from gpw_cli.pruning.groups import Floats, GroupLayout


def _sum(rows: Floats) -> Floats:
    # Row by row: NumPy's own reductions choose their order by memory layout and vector width, and
    # the order decides the last bit, hence ties.
    total = np.zeros(rows.shape[1:])
    for row in rows:
        total += row
    return total


# (a group's weights along axis 0, its number of real weights) -> score
CRITERIA: Mapping[str, Callable[[Floats, npt.NDArray[np.int64]], Floats]] = {
    "l1": lambda rows, real: _sum(np.abs(rows)) / real,
    "l2": lambda rows, real: np.sqrt(_sum(np.square(rows)) / real),
}


def group_scores(criterion: str, layout: GroupLayout, weight: npt.NDArray[np.floating]) -> Floats:
    """Score of every group of ``weight`` [O, I, KH, KW]: float64 of shape ``layout.grid``.

    Sums are float64 in one fixed order: the same weights give the same bits on every machine.
    Raises UsageError for an unknown criterion.
    """
    if criterion not in CRITERIA:
        raise UsageError(f"unknown criterion {criterion!r}: choose one of {', '.join(CRITERIA)}")
    return CRITERIA[criterion](layout.collect(weight), layout.real_weights())
