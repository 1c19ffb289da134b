"""Content-addressed artifacts: one directory a key, complete exactly when it has a manifest.

    store = Store(Path(".gpw/store"))
    with store.using([key]):                                    # `gpw cache gc` spares it
        artifact = store.make("prune", key, inputs, build)      # build(work: Path) -> metrics
        artifact.file("model.safetensors")

Writing goes to ``<key>.partial``, the manifest comes last, and one ``rename`` commits; a file lock
per key keeps two processes from doing the same work (``uses.py`` has the order of locks). A process
that dies leaves its ``.partial`` (with the training checkpoint in it), and the next one goes on
from there. All checksums, that of the manifest included, are verified when an artifact is found; a
damaged one is set aside (``<key>.damaged1``), by whoever makes it again and holds its lock.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gpw_cli.errors import StoreError
from gpw_cli.store.files import make_folder, storage_errors
from gpw_cli.store.manifest import MANIFEST, Reading, checksum, read
from gpw_cli.store.seal import sealed
from gpw_cli.store.uses import Uses

__all__ = ["MANIFEST", "RESUME", "Artifact", "Build", "Busy", "Store", "Warn", "checksum"]

# the checkpoint of an unfinished run, or the end of its name; never part of an artifact
RESUME = "last.safetensors"
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
    """The artifacts below one folder."""

    def __init__(self, root: Path, warn: Warn = lambda message: None) -> None:
        self.root, self.warn = root, warn
        self._uses = Uses(root)

    def using(self, keys: Iterable[str]) -> AbstractContextManager[None]:
        """Within the block, no ``gpw cache gc`` takes the artifacts of ``keys``."""
        return self._uses.of(keys)

    def path(self, stage: str, key: str) -> Path:
        """Where the artifact of ``key`` lies once it is complete."""
        return self.root / stage / key

    def look(self, stage: str, key: str, parent: str | None = None) -> Reading:
        """What lies there, all checksums verified; changes nothing.

        Raises StoreError where reading is not allowed.
        """
        return read(self.path(stage, key), stage, key, parent)

    def find(self, stage: str, key: str, parent: str | None = None) -> Artifact | None:
        """The complete, undamaged artifact, or None.

        parent: the key of the stage before. A manifest from before there were checksums in it is
        written again with one. Raises StoreError where reading is not allowed.
        """
        reading = self.look(stage, key, parent)
        if not reading.complete:
            return None
        if not reading.sealed:
            self._seal(stage, key, reading.manifest)
        return Artifact(key, self.path(stage, key), reading.manifest)

    def make(
        self, stage: str, key: str, inputs: Mapping[str, Any], build: Build, *, wait: bool = True
    ) -> Artifact:
        """The artifact of ``key``: found, or built by ``build(work)`` and committed.

        inputs: everything that the key was made from, for the manifest; its ``parent`` must be that
        of an artifact that is found. Raises Busy when another process is building it and ``wait``
        is False; StoreError when the store cannot be written. Whatever ``build`` raises passes
        through; its work directory stays.
        """
        parent = inputs.get("parent")
        with self.using([key]):
            found = self.find(stage, key, parent)
            if found is not None:
                return found
            with storage_errors(self.root), self._locked(stage, key, wait):
                return self._made(stage, key, inputs, build)

    def _made(self, stage: str, key: str, inputs: Mapping[str, Any], build: Build) -> Artifact:
        """``make`` for who holds the lock of ``key``."""
        parent, final = inputs.get("parent"), self.path(stage, key)
        reading = self.look(stage, key, parent)  # another process may have finished it meanwhile
        if reading.complete:
            return Artifact(key, final, reading.manifest)
        if reading.damage is not None:
            self._set_aside(final, reading.damage)
        work = final.with_suffix(".partial")
        left = read(work, stage, key, parent)
        if left.complete:  # a process was killed between the manifest and the rename
            return self._moved(stage, key, work, left.manifest)
        work.mkdir(parents=True, exist_ok=True)
        (work / MANIFEST).unlink(missing_ok=True)
        started = time.time()
        content = {"metrics": dict(build(work))}
        manifest = self._described(stage, key, {**inputs, **content}, work, started)
        return self._moved(stage, key, work, manifest)

    @contextmanager
    def _locked(self, stage: str, key: str, wait: bool) -> Iterator[None]:
        path = self._lock_file(stage, key)
        make_folder(path.parent)
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

    def _lock_file(self, stage: str, key: str) -> Path:
        return self.path(stage, key).with_suffix(".lock")

    def _described(
        self, stage: str, key: str, content: Mapping[str, Any], work: Path, started: float
    ) -> Mapping[str, Any]:
        """Write the manifest of what lies in ``work``; from here on the work is complete."""
        own = (MANIFEST, _partial(MANIFEST))
        found = (p for p in work.rglob("*") if p.is_file() and p.name not in own)
        files = sorted(p for p in found if not p.name.endswith(RESUME))
        manifest = {
            "stage": stage,
            "key": key,
            **content,
            "files": {str(p.relative_to(work)): checksum(p) for p in files},
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(time.time() - started, 3),
        }
        _write_manifest(work, manifest, files)
        return manifest

    def _moved(self, stage: str, key: str, work: Path, manifest: Mapping[str, Any]) -> Artifact:
        """Put the complete ``work`` in its place."""
        for checkpoint in work.glob(f"*{RESUME}"):
            checkpoint.unlink(missing_ok=True)
        final = self.path(stage, key)
        try:
            os.rename(work, final)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            # Two builders on a file system without locks: an artifact that is complete is as good.
            other = self.look(stage, key, manifest.get("parent"))
            if other.complete:
                shutil.rmtree(work)
                return Artifact(key, final, other.manifest)
            self._set_aside(final, other.damage or "it was not there before")
            os.rename(work, final)
        return Artifact(key, final, manifest)

    def _seal(self, stage: str, key: str, manifest: Mapping[str, Any]) -> None:
        """Write an old manifest again, with a checksum; another time, if that is not possible."""
        folder = self.path(stage, key)
        with (
            suppress(OSError, Timeout),
            FileLock(self._lock_file(stage, key)).acquire(timeout=0),
        ):
            if read(folder, stage, key, manifest.get("parent")).complete:
                _write_manifest(folder, manifest, [folder / name for name in manifest["files"]])

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


def _partial(name: str) -> str:
    return name + ".tmp"


def _write_manifest(folder: Path, manifest: Mapping[str, Any], files: Iterable[Path]) -> None:
    """Last of all; gives ``files`` the permissions of a new file (safetensors writes 0600)."""
    partial = folder / _partial(MANIFEST)
    partial.write_text(sealed(manifest), newline="\n")
    mode = partial.stat().st_mode & 0o777
    for file in files:
        if file.stat().st_mode & 0o777 != mode:
            file.chmod(mode)
    os.replace(partial, folder / MANIFEST)
