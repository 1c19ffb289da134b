"""What identifies a data set in a cache key, without loading it.

cifar10: the sha256 of its pixels and labels, which loading verifies. digits: its version here (the
pictures lie in scikit-learn's wheel). imagefolder: every file's relative path, size and time.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

from gpw_cli.data.catalog import require_known
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
        DataError: an image folder that is not there.
    """
    require_known(name)
    identity: dict[str, object] = {"name": name, "size": size, "channels": channels}
    if name == "cifar10":
        return {**identity, "sha256": CIFAR10_SHA256}
    if name == "digits":
        return {**identity, "version": DIGITS_VERSION}
    return {**identity, "files": _tree(root)}


@cache
def _tree(root: Path | None) -> str:
    if root is None or not root.is_dir():
        raise DataError(
            f"data.root={root}: no such folder; data=imagefolder needs data.root=FOLDER with "
            "train/CLASS and val/CLASS folders (or try data=digits)"
        )
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            path = Path(folder) / file
            stat = path.stat()
            digest.update(
                f"{path.relative_to(root)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode()
            )
    return digest.hexdigest()
