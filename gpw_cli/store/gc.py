"""Listing and cleaning a store: what is kept follows from the sweeps in the results folder.

for entry in entries(root): print(entry.stage, entry.key, entry.bytes)
collect(root, keep=referenced(Path("results")), dry_run=True)
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gpw_cli.store.store import MANIFEST


@dataclass(frozen=True)
class Entry:
    """One directory of the store. state: complete, partial or damaged; bytes: size on disk."""

    stage: str
    key: str
    state: str
    bytes: int
    path: Path
    summary: str


def entries(root: Path) -> list[Entry]:
    """Everything in the store, by stage and key."""
    found = [path for path in root.glob("*/*") if path.is_dir()]
    return [_entry(path) for path in sorted(found)]


def _entry(path: Path) -> Entry:
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    key, _, suffix = path.name.partition(".")
    if suffix:
        state = "partial" if suffix == "partial" else "damaged"
        return Entry(path.parent.name, key, state, size, path, "")
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        return Entry(path.parent.name, key, "complete", size, path, summary(manifest["metrics"]))
    except (OSError, ValueError, KeyError):
        return Entry(path.parent.name, key, "damaged", size, path, "")


def summary(metrics: Any) -> str:
    """Accuracy and recipe of an artifact in a few words."""
    shown = [("test_accuracy", "{:.2f} %"), ("recipe", "{}"), ("epochs", "{} epochs")]
    return ", ".join(text.format(metrics[k]) for k, text in shown if metrics.get(k) is not None)


def referenced(results: Path) -> set[str]:
    """Keys that any sweep under ``results`` refers to, by its plan or by a finished point."""
    keys: set[str] = set()
    for file in [*results.glob("*/sweep.json"), *results.glob("*/points/*.json")]:
        try:
            content = json.loads(file.read_text())
        except (OSError, ValueError):
            continue
        keys.update(_keys(content))
    return keys


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["key"]] if isinstance(value.get("key"), str) else []
        planned = list(value.get("keys", {}).values())
        return own + planned + [k for inner in value.values() for k in _keys(inner)]
    if isinstance(value, list):
        return [k for inner in value for k in _keys(inner)]
    return []


def collect(root: Path, keep: set[str], *, dry_run: bool) -> list[Entry]:
    """Remove (or only list) what no kept sweep refers to, except what a process is making now."""
    removed = []
    for entry in entries(root):
        if entry.key in keep and entry.state != "damaged":
            continue
        lock = FileLock(entry.path.parent / f"{entry.key}.lock")
        try:
            with lock.acquire(timeout=0):
                if not dry_run:
                    shutil.rmtree(entry.path)
        except Timeout:
            continue
        removed.append(entry)
    return removed
