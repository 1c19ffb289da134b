"""The pipeline as a literal list. Importing this costs nothing.

A stage is the module of its name in ``gpw_cli/stages`` with ``build(job: Job) -> metrics``,
imported when it has to run, and the function of its name in ``stages/inputs.py``, which gives its
own part of the key. Raise ``version`` by hand when a stage computes something else from the same
inputs (hashing sources would rerun everything for every changed comment).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One link of the chain."""

    name: str
    version: int


PIPELINE = (
    Stage("pretrain", 1),
    Stage("prune", 1),
    Stage("finetune", 1),
    Stage("quantize", 1),
    Stage("fuse", 1),
    Stage("simulate", 3),
)
STAGES = tuple(stage.name for stage in PIPELINE)
