"""How the host lays an image out in DRAM, so that the first convolution fills its tiles.

    layout = InputLayout((3, 3), (1, 1), (1, 1), constants=(127, 1))
    layout.shape((3, 32, 32))                 # (29, 32, 32): 27 pixels of a window, 2 constants
    layout.lay_out(images)                  # int8 [N, 3, 32, 32] -> int8 [N, 29, 32, 32]

An image of three channels would use 3 of the 16 inputs of every weight tile. With a whole window of
pixels in the channels of one position, one tile covers several kernel positions, and channels that
hold constants let the same tiles add the bias. The default layout is the image itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Int8, Int64

Pair = tuple[int, int]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class InputLayout:
    """Channel (r * kernel[1] + c) * C + p of position y, x holds image channel p at row
    y * stride[0] - padding[0] + r, column x * stride[1] - padding[1] + c, zero outside the image.

    ``constants``: the values of the channels after those, the same at every position.
    """

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    constants: tuple[int, ...] = ()

    def shape(self, image: Shape) -> Shape:
        """(channels, rows, columns) in DRAM of a ``image`` (C, H, W)."""
        rows, cols = (
            (image[1 + axis] + 2 * self.padding[axis] - self.kernel[axis]) // self.stride[axis] + 1
            for axis in (0, 1)
        )
        return self.pixels(image) + len(self.constants), rows, cols

    def pixels(self, image: Shape) -> int:
        """Channels that hold pixels."""
        return self.kernel[0] * self.kernel[1] * image[0]

    @property
    def words(self) -> str:
        """What the channels are, for a region's description; empty for the image itself."""
        if self == PLAIN:
            return ""
        (tall, wide), (down, right), (top, left) = self.kernel, self.stride, self.padding
        window = f"{tall}x{wide} window, stride {down}x{right}, padding {top}x{left}"
        constants = " ".join(map(str, self.constants)) or "none"
        return f", c = row column channel of a {window}, then constants: {constants}"

    def lay_out(self, images: Int8) -> Int8:
        """int8 [N, C, H, W] -> int8 [N, *shape]."""
        flat = images.reshape(len(images), -1)
        fixed = np.broadcast_to(np.array([0, *self.constants], np.int8), (len(flat), self._fixed))
        index = self._sources(images.shape[1:])
        laid: Int8 = np.concatenate([flat, fixed], axis=1)[:, index]
        return laid

    def image(self, laid: Int8, image: Shape) -> Int8:
        """int8 [*shape] -> the image int8 [C, H, W]; a pixel that no window holds is zero."""
        flat = np.zeros(int(np.prod(image)) + self._fixed, np.int8)
        flat[self._sources(image)] = laid
        return flat[: -self._fixed].reshape(image)

    @property
    def _fixed(self) -> int:
        return 1 + len(self.constants)

    def _sources(self, image: Shape) -> Int64:
        """The index of each element of ``shape`` in the flat array of image, zero and constants."""
        channels, height, width = image
        _, rows, cols = self.shape(image)
        tap = np.arange(self.kernel[0] * self.kernel[1])[:, None]
        row = tap // self.kernel[1] - self.padding[0] + np.arange(rows) * self.stride[0]
        col = tap % self.kernel[1] - self.padding[1] + np.arange(cols) * self.stride[1]
        inside = ((row >= 0) & (row < height))[:, :, None] & ((col >= 0) & (col < width))[:, None]
        pixel = row[:, :, None] * width + col[:, None]
        begin = np.arange(channels)[:, None, None] * (height * width)
        zero = channels * height * width
        held = np.where(inside[:, None], pixel[:, None] + begin, zero).reshape(-1, rows, cols)
        after = zero + 1 + np.arange(len(self.constants))
        constant = np.broadcast_to(after[:, None, None], (len(after), rows, cols))
        return np.concatenate([held, constant])


PLAIN = InputLayout()  # the image itself
