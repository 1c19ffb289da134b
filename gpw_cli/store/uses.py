"""Which artifacts running processes use, so that cleaning a store removes none of them.

    uses = Uses(root)
    with uses.of(["3f2a...", "9c01..."]):       # from here on `gpw cache gc` spares them
        ...
    living(root)                                # {4711: {"3f2a...", "9c01..."}}

A process writes its keys to its own file below ``ROOT/.uses`` and holds the lock beside it, which
is released when the process ends, however it ends.

The order of locks in the whole store: first ``.uses/.lock``, held only briefly, to write down keys
or while ``gpw cache gc`` moves folders; then the lock of one key, held while its artifact is made.
A process that holds the lock of a key never waits for ``.uses/.lock``, and one that holds
``.uses/.lock`` never waits for the lock of a key but tries it once.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

FOLDER = ".uses"


class Uses:
    """What this process uses of the store at ``root``; one thread at a time."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self._depth = 0
        self._noted: set[str] = set()
        self._mark: Path | None = None
        self._lock: FileLock | None = None

    @contextmanager
    def of(self, keys: Iterable[str]) -> Iterator[None]:
        """Within the block ``keys`` are in use. Blocks nest; the outermost ends them all.

        A store that cannot be written is read without a mark: nobody can clean it either.
        """
        self._depth += 1
        try:
            if new := set(keys) - self._noted:
                with suppress(OSError):
                    self._note(new)
                self._noted |= new
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._leave()

    def _note(self, keys: set[str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with exclusive(self._folder.parent):
            if self._mark is None:
                _read(self._folder)  # drops the marks of processes that were killed
                mark = self._folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.keys"
                lock = FileLock(mark.with_suffix(".lock"))
                lock.acquire(timeout=0)
                self._mark, self._lock = mark, lock
            with self._mark.open("a") as stream:
                stream.write("".join(f"{key}\n" for key in sorted(keys)))

    def _leave(self) -> None:
        mark, lock = self._mark, self._lock
        self._noted, self._mark, self._lock = set(), None, None
        with suppress(OSError):
            if mark is not None and lock is not None:
                mark.unlink(missing_ok=True)
                mark.with_suffix(".lock").unlink(missing_ok=True)
        if lock is not None:
            lock.release()


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Within the block nobody else notes keys or moves folders. First in the order of locks."""
    with FileLock(root / FOLDER / ".lock"):
        yield


def living(root: Path) -> dict[int, set[str]]:
    """Process number -> the keys that it uses. Consistent only within ``exclusive``."""
    return _read(root / FOLDER, drop_dead=False)


def _read(folder: Path, *, drop_dead: bool = True) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for mark in sorted(folder.glob("*-*.lock")):
        keys = mark.with_suffix(".keys")
        if held(mark):
            with suppress(OSError):
                number = int(mark.name.partition("-")[0])
                found.setdefault(number, set()).update(keys.read_text().split())
        elif drop_dead:
            keys.unlink(missing_ok=True)
            mark.unlink(missing_ok=True)
    return found


def held(lock: Path) -> bool:
    """Whether a running process holds ``lock``; never creates it."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a store that only others may write
        return False
