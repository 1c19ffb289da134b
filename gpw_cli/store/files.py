"""Files that readers never see half-written, and storage errors in one line."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gpw_cli.errors import StoreError

AGAIN = (
    "; mend this or name another folder with runtime.root=FOLDER, and run the same command again "
    "to go on from here"
)
Stamp = tuple[str, int, int]  # of a file at a time
_ABANDONED = 3600.0  # seconds; a write takes less than one
_FULL = "`gpw cache gc` frees space"
_REASONS = {
    errno.ENOSPC: f"the disk is full: {_FULL}",
    errno.EDQUOT: f"the disk quota is used up: {_FULL}",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission to write",
    errno.EPERM: "no permission to write",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EISDIR: "a folder is where a file should be",
    errno.EEXIST: "a file is where a folder should be",
    errno.ENAMETOOLONG: "the path is too long",
    errno.ELOOP: "the path is a circle of links",
    errno.EIO: "the disk reports an error",
}


@contextmanager
def storage_errors(where: Path, advice: str = AGAIN) -> Iterator[None]:
    """Turns the operating system's storage errors into one line that says what to do."""
    try:
        yield
    except Exception as error:
        reason = _REASONS.get(_errno(error))
        if reason is None:
            raise
        raise StoreError(f"cannot write below {where}: {reason}{advice}") from error


def _errno(error: Exception) -> int:
    """The system's error number; safetensors reports it only in its text, as ``(os error 28)``."""
    if isinstance(error, OSError):
        return error.errno or 0
    told = re.search(r"os error (\d+)", str(error))
    return int(told[1]) if told else 0


def stamp(file: Path) -> Stamp:
    """Absolute path, size and time of change (ns): for what a process remembers of a file."""
    state = file.stat()
    return str(file.resolve()), state.st_size, state.st_mtime_ns


def make_folder(folder: Path) -> None:
    """``mkdir -p``; StoreError where none may be made, as below /proc."""
    with storage_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, ValueError) as error:
            raise StoreError(
                f"no folder can be made at {folder} ({error}): name another one with "
                "runtime.root=FOLDER"
            ) from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside ``path`` and move over it; raises OSError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    partial.write_bytes(content)
    os.replace(partial, path)


def clear_partials(folder: Path) -> None:
    """Remove what ``write_bytes`` of a killed process left in ``folder``, an hour ago or longer."""
    for partial in folder.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime > _ABANDONED:
                partial.unlink()


def write_text(path: Path, text: str) -> None:
    """Write beside ``path`` and move over it; creates the folder. StoreError if that fails."""
    make_folder(path.parent)
    with storage_errors(path.parent):
        write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """``write_text`` of indented JSON; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def partial_of(name: str) -> str:
    """The name of a file of ``write_folder`` while it is being written."""
    return f".{name}.partial"


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write every file of ``contents`` into ``folder``, each whole or not at all; raises OSError.

    The last file is removed first and written last: while it is there, all of them are of one call.
    A writer that is stopped leaves only names of ``contents`` and ``partial_of`` them, which the
    same call replaces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / list(contents)[-1]).unlink(missing_ok=True)
    for name, content in contents.items():
        partial = folder / partial_of(name)
        partial.write_bytes(content)
        os.replace(partial, folder / name)
