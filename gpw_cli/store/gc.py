"""Listing and cleaning a store: what is kept follows from the sweeps in the results folder.

for entry in entries(root): print(entry.stage, entry.key, entry.bytes)
collect(root, keep=referenced([Path("results")]), dry_run=True)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gpw_cli.errors import UsageError
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


def referenced(folders: Iterable[Path]) -> set[str]:
    """Keys that any sweep in ``folders`` refers to, by its plan or by a finished point.

    Raises UsageError where that cannot be known: no such folder, no sweep in it, a file of a sweep
    that does not read.
    """
    keys: set[str] = set()
    for folder in folders:
        sweeps = [*folder.glob("*/sweep.json")]
        if not sweeps:
            raise UsageError(
                f"--results {folder}: no sweep is there, so nothing would be kept; name the folder "
                "that holds your sweeps, or remove every artifact with --all"
            )
        for file in [*sweeps, *folder.glob("*/points/*.json")]:
            keys.update(_keys(_content(file)))
    return keys


def _content(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{file} does not read, so what it refers to is not known ({error}); "
            "remove it, or run its sweep again"
        ) from error


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
