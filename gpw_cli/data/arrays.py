"""What loaders share: progress, and data sets as NumPy arrays (checksums, resizing, fingerprints).

    arrays = {"train/images": ..., "test/images": ..., "train/labels": ..., "test/labels": ...}
    verify(arrays, CIFAR10_SHA256, "data.root")
    images = to_images("cifar10", arrays, classes, mean, std)

Images are uint8 [N, H, W, C], labels are integers [N].
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from gpw_cli.data.images import Images, Split
from gpw_cli.errors import DataError

Arrays = Mapping[str, NDArray[Any]]
MEMORY_LIMIT = 8 * 1024**3  # bytes of decoded images


class Progress(Protocol):
    """Called during long operations; ``total`` is None if unknown."""

    def __call__(self, what: str, done: int, total: int | None, /) -> None:
        """``done`` of ``total`` units are done; ``what`` names the operation and its unit."""


def ignore(what: str, done: int, total: int | None, /) -> None:
    """A Progress that does nothing."""


def sha256(array: NDArray[Any]) -> str:
    """Hexadecimal sha256 of the elements in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def verify(arrays: Arrays, expected: Mapping[str, str], origin: str) -> Arrays:
    """Return ``arrays`` if each has the digest in ``expected``.

    Raises:
        DataError: names ``origin`` and the first array that differs.
    """
    for name, digest in expected.items():
        if sha256(arrays[name]) != digest:
            raise DataError(f"{origin}: {name} are damaged (their sha256 is not {digest[:12]}…)")
    return arrays


def fingerprint(arrays: Arrays) -> str:
    """sha256 over shapes, pixels and labels (as little-endian int64) of both splits."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        content = array.astype("<i8") if name.endswith("labels") else array
        digest.update(f"{name} {array.shape} {sha256(content)}\n".encode())
    return digest.hexdigest()


def require_memory(name: str, count: int, size: int, channels: int) -> None:
    """Raise DataError if ``count`` images of this size exceed ``MEMORY_LIMIT``."""
    needed = count * size * size * channels
    if needed > MEMORY_LIMIT:
        raise DataError(
            f"{name}: {count} images of {size}x{size}x{channels} take {needed / 1e9:.1f} GB, "
            f"more than the {MEMORY_LIMIT / 1e9:.1f} GB kept in memory: choose a smaller data.size"
        )


def resized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Square images resized to ``size`` pixels: bilinear, in Pillow's integer arithmetic.

    The result and its fingerprint are therefore the same on every machine.
    """
    if images.shape[1:3] == (size, size):
        return images
    out = np.empty((len(images), size, size, images.shape[3]), np.uint8)
    for index, image in enumerate(images):
        plain = image[:, :, 0] if image.shape[2] == 1 else image
        small = Image.fromarray(plain).resize((size, size), Image.Resampling.BILINEAR)
        out[index] = np.asarray(small).reshape(out.shape[1:])
    return out


def to_images(
    name: str,
    arrays: Arrays,
    classes: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Images:
    """The data set as tensors that share the memory of the arrays, with its fingerprint."""
    train, test = (
        Split(
            torch.from_numpy(arrays[f"{split}/images"]),
            torch.from_numpy(arrays[f"{split}/labels"].astype(np.int64)),
        )
        for split in ("train", "test")
    )
    return Images(name, train, test, classes, mean, std, fingerprint(arrays))
