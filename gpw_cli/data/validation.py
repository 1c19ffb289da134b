"""A validation split: training pictures that stand in for the test pictures.

    pictures = held_out(pictures, 5000)     # trains on the others; the test pictures are gone

Recipes, criteria and knobs are chosen on it, so that the test pictures only ever give final
numbers.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from gpw_cli.data.pictures import Pictures, Split
from gpw_cli.errors import UsageError

SEED = 5000  # of the draw; the same pictures for every seed of a run


def held_out(pictures: Pictures, count: int) -> Pictures:
    """``pictures`` with ``count`` training pictures, drawn once for all, as the test split.

    0 leaves them as they are. Raises UsageError where nothing would be left to train on.
    """
    if count == 0:
        return pictures
    total = len(pictures.train)
    if count >= total:
        raise UsageError(
            f"data.validation={count}: {pictures.name} has {total} training pictures; "
            f"use at most data.validation={total - 1}"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(SEED))
    held, kept = order[:count].sort().values, order[count:].sort().values
    train, test = (
        Split(pictures.train.images[rows], pictures.train.labels[rows]) for rows in (kept, held)
    )
    return replace(pictures, train=train, test=test)
