"""The weights that gpw ships, each with a manifest of their training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "weights"
SHOWN = ("recipe", "epochs", "seed", "precision", "trained_commit")


def bundled_weights(model: str, shortcut: str, data: str) -> Path | None:
    """The shipped safetensors file for this network on this data set, or None."""
    file = FOLDER / f"{model}-{shortcut}-{data}.safetensors"
    return file if file.is_file() else None


def bundled_names() -> list[str]:
    """``model-shortcut-data`` of all shipped weights."""
    return sorted(file.stem for file in FOLDER.glob("*.safetensors"))


def bundled_manifest(weights: Path) -> dict[str, Any]:
    """The manifest of shipped weights (``SHOWN`` and ``history``); {} for any other file."""
    manifest = weights.with_suffix(".json")
    if weights.parent != FOLDER or not manifest.is_file():
        return {}
    content: dict[str, Any] = json.loads(manifest.read_text())
    return content
