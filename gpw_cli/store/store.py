"""Content-addressed artifacts: one directory a key, complete exactly when it has a manifest.

    store = Store(Path(".gpw/store"))
    artifact = store.make("prune", key, inputs, build)      # build(work: Path) -> metrics
    artifact.file("model.safetensors")

Writing goes to ``<key>.partial``, the manifest comes last, and one ``rename`` commits; a file lock
per key keeps two processes from doing the same work. A process that dies leaves its ``.partial``
(with the training checkpoint in it), and the next one goes on from there. Payload checksums are
verified when an artifact is found; a damaged one is set aside (``<key>.damaged``) and made again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gpw_cli.errors import StoreError

MANIFEST = "manifest.json"
RESUME = "last.safetensors"  # the unfinished run's checkpoint; never part of an artifact
Build = Callable[[Path], Mapping[str, Any]]
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Artifact:
    """A complete artifact; ``manifest`` holds inputs, parent, metrics, versions and checksums."""

    key: str
    path: Path
    manifest: Mapping[str, Any]

    def file(self, name: str) -> Path:
        """Path of a payload file."""
        return self.path / name

    @property
    def metrics(self) -> dict[str, Any]:
        """What the stage measured."""
        return dict(self.manifest["metrics"])


class Busy(Exception):
    """Another process is making this artifact (only raised when not waiting)."""


class Store:
    """The artifacts below one directory."""

    def __init__(self, root: Path, warn: Warn = lambda message: None) -> None:
        self.root, self.warn = root, warn

    def path(self, stage: str, key: str) -> Path:
        """Where the artifact of ``key`` lies once it is complete."""
        return self.root / stage / key

    def find(self, stage: str, key: str) -> Artifact | None:
        """The complete, undamaged artifact, or None. A damaged one is set aside with a warning."""
        path = self.path(stage, key)
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            damage = _damage(path, manifest)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            manifest, damage = {}, f"unreadable manifest ({type(error).__name__})"
        if damage is None:
            return Artifact(key, path, manifest)
        self._set_aside(path, damage)
        return None

    def make(
        self, stage: str, key: str, inputs: Mapping[str, Any], build: Build, *, wait: bool = True
    ) -> Artifact:
        """The artifact of ``key``: found, or built by ``build(work)`` and committed.

        inputs: everything that the key was made from, for the manifest.
        Raises Busy when another process is building it and ``wait`` is False; StoreError when the
        store cannot be written. Whatever ``build`` raises passes through; its work directory stays.
        """
        found = self.find(stage, key)
        if found is not None:
            return found
        with storage_errors(self.root), self._locked(stage, key, wait):
            found = self.find(stage, key)  # another process may have finished it meanwhile
            if found is not None:
                return found
            work = self.path(stage, key).with_suffix(".partial")
            work.mkdir(parents=True, exist_ok=True)
            started = time.time()
            metrics = build(work)
            return self._commit(stage, key, {**inputs, "metrics": dict(metrics)}, work, started)

    @contextmanager
    def _locked(self, stage: str, key: str, wait: bool) -> Iterator[None]:
        path = self.path(stage, key).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise Busy(key) from None
            self.warn(f"{stage} {key}: waiting for another gpw process that is making it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _commit(
        self, stage: str, key: str, content: Mapping[str, Any], work: Path, started: float
    ) -> Artifact:
        (work / RESUME).unlink(missing_ok=True)
        files = sorted(p for p in work.rglob("*") if p.is_file() and p.name != MANIFEST)
        manifest = {
            "stage": stage,
            "key": key,
            **content,
            "files": {str(p.relative_to(work)): checksum(p) for p in files},
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(time.time() - started, 3),
        }
        text = json.dumps(manifest, indent=1, allow_nan=False)
        partial = work / (MANIFEST + ".tmp")
        partial.write_text(text)
        os.replace(partial, work / MANIFEST)
        final = self.path(stage, key)
        try:
            os.rename(work, final)
        except OSError as error:
            # Two builders on a file system without locks: the first one's artifact is as good.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            shutil.rmtree(work)
        return Artifact(key, final, json.loads(text))

    def _set_aside(self, path: Path, damage: str) -> None:
        number = 1
        while (aside := path.with_suffix(f".damaged{number}")).exists():
            number += 1
        try:
            os.rename(path, aside)
        except OSError as error:
            raise StoreError(f"{path} is damaged ({damage}) and cannot be moved: {error}") from None
        self.warn(
            f"{path.parent.name} {path.name}: {damage}; set aside as {aside.name}, made again"
        )


def checksum(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _damage(path: Path, manifest: Mapping[str, Any]) -> str | None:
    for name, expected in manifest["files"].items():
        try:
            if checksum(path / name) != expected:
                return f"{name} does not match its checksum"
        except FileNotFoundError:
            return f"{name} is missing"
    return None


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turn the operating system's storage errors into one line that says what to do."""
    reasons = {
        errno.ENOSPC: "the disk is full: free space (`gpw cache gc`)",
        errno.EDQUOT: "the disk quota is used up: free space (`gpw cache gc`)",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "no permission to write",
        errno.EPERM: "no permission to write",
        errno.ENOTDIR: "a part of the path is a file",
    }
    try:
        yield
    except Exception as error:
        reason = reasons.get(_errno(error))
        if reason is None:
            raise
        raise StoreError(
            f"cannot write below {where}: {reason}, or name another folder with "
            "runtime.root=FOLDER; run the same command again to go on from here"
        ) from error


def _errno(error: Exception) -> int:
    """The system's error number; safetensors reports it only in its text, as ``(os error 28)``."""
    if isinstance(error, OSError):
        return error.errno or 0
    told = re.search(r"os error (\d+)", str(error))
    return int(told[1]) if told else 0
