"""The identity of a data set in cache keys, found without loading it.

cifar10: the sha256 of its pixels and labels, which loading verifies. digits: its version here (the
images are in scikit-learn's wheel). imagefolder: split, label, name, size and time of each image.
Plug-ins: the package and its version, and the files below data.root.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from gpw_cli.data.catalog import DataSet, require_known
from gpw_cli.data.folder import listed
from gpw_cli.errors import DataError

CIFAR10_SHA256 = {
    "train/images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "test/images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "train/labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test/labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}
DIGITS_VERSION = 1  # of the split and the resizing in gpw_cli/data/digits.py


def data_identity(name: str, root: Path | None, size: int, channels: int) -> dict[str, object]:
    """Plain data for a cache key.

    Raises:
        UsageError: no such data set.
        DataError: an image folder that is not there or has another layout.
    """
    plugin = require_known(name)
    identity: dict[str, object] = {"name": name, "size": size, "channels": channels}
    if plugin is not None:
        plugin.load_as(DataSet)  # raises for a broken plug-in before anything runs
        files = {} if root is None else {"files": _files(root)}
        return {**identity, "plugin": plugin.origin, **files}
    if name == "cifar10":
        return {**identity, "sha256": CIFAR10_SHA256}
    if name == "digits":
        return {**identity, "version": DIGITS_VERSION}
    return {**identity, "files": _tree(root)}


@cache
def _tree(root: Path | None) -> str:
    """A digest of the image folder; links are followed, as in loading."""
    splits, _ = listed(root)
    digest = hashlib.sha256()
    for split, files in splits.items():
        for path, label in files:
            digest.update(f"{split}\0{label}\0{path.name}\0{_state(path)}\n".encode())
    return digest.hexdigest()


@cache
def _files(root: Path) -> str:
    """A digest of all files below ``root``."""
    if not root.exists():
        raise DataError(f"data.root={root}: no such file or folder")
    found = sorted(path for path in root.rglob("*") if path.is_file()) or [root]
    digest = hashlib.sha256()
    for path in found:
        digest.update(f"{path.relative_to(root).as_posix()}\0{_state(path)}\n".encode())
    return digest.hexdigest()


def _state(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: not a readable image ({error.strerror})") from error
    return f"{stat.st_size}\0{stat.st_mtime_ns}"
