"""The user's own images in the ImageNet layout: root/train/CLASS/* and root/val/CLASS/*.

    images = load_imagefolder(Path("flowers"), size=64, channels=3, progress=ignore)

Each image is decoded once and kept in memory as uint8.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpw_cli.data.arrays import Progress, require_memory, to_images
from gpw_cli.data.folder import Listed, listed
from gpw_cli.data.images import Images
from gpw_cli.errors import DataError

# The usual normalisation of ImageNet networks; for one channel, that of the luma.
MEAN = {3: (0.485, 0.456, 0.406), 1: (0.459,)}
STD = {3: (0.229, 0.224, 0.225), 1: (0.226,)}
_MODES = {3: "RGB", 1: "L"}


def load_imagefolder(root: Path | None, size: int, channels: int, progress: Progress) -> Images:
    """Both splits, resized to ``size`` pixels on the short side and cropped to the centre square.

    Raises:
        DataError: a missing folder, another layout, different class folders in the splits, or an
            image that is unreadable or smaller than ``size``.
    """
    if channels not in _MODES:
        raise DataError(f"data.channels={channels}: images have 3 channels, or 1 (grey)")
    splits, classes = listed(root)
    count = sum(len(files) for files in splits.values())
    require_memory("imagefolder", count, size, channels)
    arrays: dict[str, NDArray[np.uint8] | NDArray[np.int64]] = {}
    for split, files in splits.items():
        what = f"imagefolder: {split} images"
        arrays[f"{split}/images"] = _decoded(files, size, channels, what, progress)
        arrays[f"{split}/labels"] = np.array([label for _, label in files], np.int64)
    return to_images("imagefolder", arrays, classes, MEAN[channels], STD[channels])


def _decoded(
    files: Listed, size: int, channels: int, what: str, progress: Progress
) -> NDArray[np.uint8]:
    out = np.empty((len(files), size, size, channels), np.uint8)
    decode = partial(_read_image, size=size, channels=channels)
    # Pillow releases the GIL while it decodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, pixels in enumerate(pool.map(decode, (path for path, _ in files))):
            out[index] = pixels
            if index % 100 == 99 or index + 1 == len(files):
                progress(what, index + 1, len(files))
    return out


def _read_image(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            pixels = image.convert(_MODES[channels])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image ({error})") from None
    width, height = pixels.size
    short = min(width, height)
    if short < size:
        raise DataError(
            f"{path}: {width}x{height} pixels, smaller than data.size={size}: "
            f"use larger images or data.size={short}"
        )
    scaled = pixels.resize(
        (round(width * size / short), round(height * size / short)), Image.Resampling.BILINEAR
    )
    left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
    square = scaled.crop((left, top, left + size, top + size))
    return np.asarray(square, np.uint8).reshape(size, size, channels)
