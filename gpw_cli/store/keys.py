"""Cache keys: sha256 over canonical JSON, chained through the parent's key.

    key = stage_key("prune", version=1, config={"sparsity": 0.7}, parent=pretrain_key)

All keys of a sweep follow from the configuration alone, before anything runs. Floats and enums are
canonical because they come out of the typed schema; NaN is refused.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

SHOWN = 16  # hex digits used in names: 64 bits


def canonical(value: Any) -> str:
    """The one JSON text of plain data; raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """First 16 hex digits of sha256 over ``canonical(value)``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:SHOWN]


def stage_key(stage: str, version: int, config: Any, parent: str | None) -> str:
    """Key of one stage's artifact; ``parent`` is the upstream stage's key."""
    return digest({"stage": stage, "version": version, "config": config, "parent": parent})
