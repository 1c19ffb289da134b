"""The handwritten digits of scikit-learn: 1,797 images of 8x8 pixels, part of its wheel.

Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998 (its test part).
A change of the split or the resizing needs a new DIGITS_VERSION in ``identity.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpw_cli.data.arrays import resized, to_images
from gpw_cli.data.images import Images
from gpw_cli.errors import DataError

NATIVE_SIZE = 8
SIZES = range(8, 513)
# Mean and standard deviation of the training pixels at 16x16, in 0..1.
MEAN, STD = 0.305, 0.318


def load_digits_images(size: int, channels: int) -> Images:
    """1,438 training and 359 test images of ``size`` pixels; 3 channels repeat the grey value.

    The test split is the third of every five images of a class, in scikit-learn's order.

    Raises:
        DataError: a size outside 8..512, or channels other than 1 and 3.
    """
    if size not in SIZES:
        raise DataError(f"data.size={size}: digits can be resized to 8 to 512 pixels")
    if channels not in (1, 3):
        raise DataError(f"data.channels={channels}: digits have 1 channel, or 3 equal ones")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # 0..16 -> 0..255
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    images = resized(pixels, size).repeat(channels, axis=3)
    test = _test_rows(bunch.target)
    arrays = {
        "train/images": images[~test],
        "train/labels": bunch.target[~test],
        "test/images": images[test],
        "test/labels": bunch.target[test],
    }
    classes = tuple(str(digit) for digit in range(10))
    return to_images("digits", arrays, classes, (MEAN,) * channels, (STD,) * channels)


def _test_rows(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    rows = np.zeros(len(labels), bool)
    for digit in range(10):
        rows[np.flatnonzero(labels == digit)[2::5]] = True
    return rows
