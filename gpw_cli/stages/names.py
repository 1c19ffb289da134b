"""The stages of the pipeline as a literal list. Importing this costs nothing.

A stage consists of the module of its name in ``gpw_cli/stages`` with ``build(job: Job) ->
metrics``, imported when it runs, and the function of its name in ``stages/inputs.py``, which
returns its part of the key. Increase ``version`` when the results of a stage change for the same
inputs. (Keys from hashes of the source would rerun everything for each changed comment.)
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline."""

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
