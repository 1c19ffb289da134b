"""Load, fetch and check data sets by name.

    images = load_images("cifar10", None, Path(".gpw/data"), 32, 3)
    images = load_images("digits", None, Path(".gpw/data"), 16, 1)

There is no fallback to another data set: one that cannot be loaded raises DataError.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from gpw_cli.data import cifar10, cifar10_fetch
from gpw_cli.data.arrays import Arrays, Progress, ignore, require_memory, resized, to_images
from gpw_cli.data.catalog import describe, native_shape, plugged, require_known
from gpw_cli.data.digits import NATIVE_SIZE, load_digits_images
from gpw_cli.data.imagefolder import load_imagefolder
from gpw_cli.data.images import Images
from gpw_cli.errors import DataError, UsageError

__all__ = ["Checked", "check", "describe", "fetch", "load_images"]

# default (size, channels) of ``check``
_SHAPES = {"cifar10": (cifar10.SIZE, 3), "digits": (NATIVE_SIZE, 1), "imagefolder": (32, 3)}


@dataclass(frozen=True)
class Checked:
    """A complete and undamaged data set."""

    name: str
    place: str
    train: int  # images
    test: int
    classes: int
    fingerprint: str


def load_images(
    name: str,
    root: Path | None,
    cache: Path,
    size: int,
    channels: int,
    progress: Progress = ignore,
) -> Images:
    """Data set ``name`` in memory, uint8 [N, size, size, channels].

    ``root``: the folder of the user (data.root); ``cache``: the folder of fetched data.

    Raises:
        UsageError: no such data set.
        DataError: it is missing and cannot be fetched, damaged, or not available in this shape.
    """
    if (other := plugged(name)) is not None:
        return _checked_images(name, other.load(root, size, channels), size, channels)
    if name == "digits":
        return load_digits_images(size, channels)
    if name == "imagefolder":
        return load_imagefolder(root, size, channels, progress)
    if channels != 3:
        raise DataError(f"cifar10 has images of 3 channels, not {channels}: use data.channels=3")
    require_memory("cifar10", 60_000, size, channels)
    arrays = _cifar10(root, cache, progress)
    if size != cifar10.SIZE:
        progress(f"cifar10: resizing to {size}x{size}", 0, None)
        arrays = {
            key: resized(array, size) if key.endswith("images") else array
            for key, array in arrays.items()
        }
    return to_images("cifar10", arrays, cifar10.CLASSES, cifar10.MEAN, cifar10.STD)


def _cifar10(root: Path | None, cache: Path, progress: Progress) -> Arrays:
    if root is not None:
        return cifar10.read_folder(root)
    try:
        return cifar10.open_stored(cifar10.stored_folder(cache))
    except DataError:
        return cifar10.open_stored(cifar10_fetch.fetch(cache, progress))


def fetch(name: str, cache: Path, progress: Progress) -> Checked:
    """``gpw data fetch NAME``: fetch it into ``cache`` (digits need no fetching) and check it."""
    if require_known(name) is not None:
        return check(name, None, cache)
    if name == "imagefolder":
        raise UsageError("imagefolder cannot be fetched: it is your own folder, data.root=FOLDER")
    if name == "cifar10":
        cifar10_fetch.fetch(cache, progress)
    return check(name, None, cache)


def check(name: str, root: Path | None, cache: Path, size: int = 0, channels: int = 0) -> Checked:
    """``gpw data check NAME``: load and verify it, without fetching.

    Size and channels 0: those of the data set (imagefolder: 32 pixels, 3 channels).

    Raises:
        UsageError: no such data set.
        DataError: it is missing or damaged.
    """
    if (plugin := require_known(name)) is not None:
        own_channels, own_size = native_shape(name)
        found = load_images(name, root, cache, size or own_size, channels or own_channels)
        return _checked(found, plugin.origin)
    place = {
        "digits": "embedded in scikit-learn",
        "imagefolder": str(root),
        "cifar10": str(root or cifar10.stored_folder(cache)),
    }[name]
    if name == "cifar10" and root is None:
        root = cifar10.stored_folder(cache)
        if not root.exists():
            raise DataError(f"{root}: cifar10 is not here; run `gpw data fetch cifar10`")
    native_size, native_channels = _SHAPES[name]
    images = load_images(name, root, cache, size or native_size, channels or native_channels)
    return _checked(images, place)


def _checked_images(name: str, found: Images, size: int, channels: int) -> Images:
    """Check the data set of a plug-in; DataError if it is not as requested."""
    if not isinstance(found, Images):
        raise DataError(f"data.name={name}: loads a {type(found).__name__}, not Images")
    for part, split in (("train", found.train), ("test", found.test)):
        shape, kind = tuple(split.images.shape), split.images.dtype
        if shape[1:] != (size, size, channels) or kind != torch.uint8 or not len(split):
            raise DataError(
                f"data.name={name}: {part} images are {kind} {list(shape)}, expected uint8 "
                f"[N, {size}, {size}, {channels}]"
            )
        if len(split) != len(split.images):
            raise DataError(
                f"data.name={name}: {len(split.images)} {part} images, {len(split)} labels"
            )
    return found


def _checked(images: Images, place: str) -> Checked:
    return Checked(
        images.name,
        place,
        len(images.train),
        len(images.test),
        len(images.classes),
        images.fingerprint,
    )
