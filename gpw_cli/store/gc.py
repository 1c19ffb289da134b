"""Listing and cleaning a store; the sweeps in the results folder say what is kept.

for entry in entries(root): print(entry.stage, entry.key, entry.bytes)
collect(root, keep=referenced([Path("results")]), dry_run=True).removed     # records.py

A folder is renamed (into ``ROOT/.trash``) before anything in it is deleted, so that a killed
cleaning leaves no half-deleted artifact in place; the next cleaning empties the trash.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gpw_cli.store.files import storage_errors
from gpw_cli.store.manifest import MANIFEST
from gpw_cli.store.seal import Damaged, opened
from gpw_cli.store.uses import FOLDER, exclusive, held, living

TRASH = ".trash"
HOUR = 3600.0
_SHOWN = (("model", "name"), ("data", "name"), ("pruning", "scheme"), ("pruning", "sparsity"))


@dataclass(frozen=True)
class Entry:
    """One directory of the store. bytes: size on disk; seconds: since its last change.

    state: complete, partial, damaged, or unreadable (not allowed); made_with: network, data set,
    scheme and sparsity as far as the stage depends on them; summary: accuracy and recipe.
    """

    stage: str
    key: str
    state: str
    bytes: int
    path: Path
    seconds: float = 0.0
    made_with: str = ""
    summary: str = ""


@dataclass
class Collected:
    """removed: what was removed, or would be; young, used: spared for its age or its users."""

    removed: list[Entry] = field(default_factory=list)
    young: list[Entry] = field(default_factory=list)
    used: list[Entry] = field(default_factory=list)
    processes: set[int] = field(default_factory=set)


def entries(root: Path) -> list[Entry]:
    """Everything in the store, by stage and key."""
    found = [path for path in root.glob("*/*") if path.is_dir() and path.parent.name[:1] != "."]
    listed = (_entry(path) for path in sorted(found))
    return [entry for entry in listed if entry is not None]


def _entry(path: Path) -> Entry | None:
    """None for a folder that another process has renamed or removed since it was listed."""
    key, _, suffix = path.name.partition(".")
    state = ("partial" if suffix == "partial" else "damaged") if suffix else "complete"
    size, changed, content = 0, 0.0, {}
    try:
        size, changed = _size(path)
        if state == "complete":
            content = opened((path / MANIFEST).read_bytes()).content
    except PermissionError:
        state = "unreadable"
    except (OSError, Damaged):
        state = "damaged" if state == "complete" else state
    if not path.exists():
        return None
    seconds = max(0.0, time.time() - changed) if changed else 0.0
    stage = path.parent.name
    made_with, measured = _made_with(stage, content.get("config")), content.get("metrics")
    return Entry(stage, key, state, size, path, seconds, made_with, summary(measured))


def _size(path: Path) -> tuple[int, float]:
    """(bytes, time of the last change) of a folder, whose files may come and go meanwhile."""
    found = [path.lstat()]
    for item in path.rglob("*"):
        with suppress(FileNotFoundError):
            found.append(item.lstat())
    return sum(s.st_size for s in found[1:]), max(s.st_mtime for s in found)


def _made_with(stage: str, config: Any) -> str:
    """``resnet20 cifar10 gpw 0.7``; empty where the manifest does not say it."""
    shown = _SHOWN[:2] if stage == "pretrain" else _SHOWN
    values: list[str] = []
    for group, name in shown:
        part = config.get(group) if isinstance(config, dict) else None
        value = part.get(name) if isinstance(part, dict) else None
        if value is not None and not (name == "sparsity" and values[-1:] == ["dense"]):
            values.append(str(value))
    return " ".join(values)


def summary(metrics: Any) -> str:
    """Accuracy and recipe of an artifact in a few words."""
    if not isinstance(metrics, dict):
        return ""
    accuracy, recipe, epochs = (metrics.get(k) for k in ("test_accuracy", "recipe", "epochs"))
    shown = [f"{accuracy:.2f} %"] if isinstance(accuracy, int | float) else []
    shown += [str(recipe)] if recipe is not None else []
    return ", ".join([*shown, *([f"{epochs} epochs"] if epochs is not None else [])])


def collect(root: Path, keep: set[str], *, dry_run: bool, min_age: float = 0.0) -> Collected:
    """Remove (or only list) what no kept sweep refers to.

    Spared are what a living process uses or makes, and what changed less than ``min_age`` seconds
    ago. Raises StoreError where the store cannot be written.
    """
    found = Collected()
    unwanted = [e for e in entries(root) if e.key not in keep or e.state == "damaged"]
    with storage_errors(root, "; what is there stays as it is"):
        with nullcontext() if dry_run or not root.is_dir() else _prepared(root):
            users = living(root)
            used = {key for keys in users.values() for key in keys}
            for entry in unwanted:
                _sort_in(found, entry, root, used, dry_run, min_age)
            taken = {entry.key for entry in found.used} & used
            found.processes = {number for number, keys in users.items() if keys & taken}
            if not dry_run:
                _remove_locks(root, used)
        if not dry_run:
            _empty(root / TRASH)
    return found


@contextmanager
def _prepared(root: Path) -> Iterator[None]:
    (root / FOLDER).mkdir(exist_ok=True)
    (root / TRASH).mkdir(exist_ok=True)
    with exclusive(root):
        yield


def _sort_in(
    found: Collected, entry: Entry, root: Path, used: set[str], dry_run: bool, min_age: float
) -> None:
    """Remove ``entry`` unless it is spared, and note which it was."""
    lock = _lock_of(entry.path)
    if entry.key in used or (dry_run and held(lock)):
        found.used.append(entry)
    elif entry.seconds < min_age:
        found.young.append(entry)
    elif dry_run or _move_away(entry.path, root, lock):
        found.removed.append(entry)
    else:
        found.used.append(entry)


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name.partition(".")[0] + ".lock")


def _move_away(path: Path, root: Path, lock: Path) -> bool:
    """Returns False where another process is making it."""
    try:
        with FileLock(lock).acquire(timeout=0):
            os.rename(path, root / TRASH / f"{path.name}-{uuid.uuid4().hex[:8]}")
    except Timeout:
        return False
    except FileNotFoundError:  # another cleaning took it
        return True
    return True


def _remove_locks(root: Path, used: set[str]) -> None:
    """Removes the lock files of keys that nothing is left of.

    This is safe: a process notes a key before it takes its lock, and nobody notes keys now.
    """
    for lock in root.glob("[!.]*/*.lock"):
        left = (lock.parent / lock.stem).exists() or any(
            path != lock for path in lock.parent.glob(f"{lock.stem}.*")
        )
        if not left and lock.stem not in used and not held(lock):
            lock.unlink(missing_ok=True)


def _empty(trash: Path) -> None:
    for path in trash.glob("*"):
        with suppress(FileNotFoundError):  # another cleaning empties it too
            shutil.rmtree(path)
