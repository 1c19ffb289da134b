"""Small files that readers never see half-written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gpw_cli.store.store import storage_errors


def write_text(path: Path, text: str) -> None:
    """Write beside ``path`` and move over it; creates the folder. StoreError if that fails."""
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        partial.write_text(text)
        os.replace(partial, path)


def write_json(path: Path, value: Any) -> None:
    """``write_text`` of indented JSON; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
