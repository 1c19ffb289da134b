"""Exact int8 matrix products, in the fastest way this CPU offers.

    acc = int8_matmul(a, b, bound)     # int32 [M, N]; bound on the magnitude of partial sums

Three exact methods: int8 dot products of VNNI (int32 accumulators without saturation; older AVX2
kernels saturate at 16 bits and are not used), float32 if every partial sum is below 2^24, float64
if it is below 2^53.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

FLOAT32_EXACT = 2**24


def int8_matmul(a: Tensor, b: Tensor, bound: int) -> Tensor:
    """int32 [M, N] = int8 [M, K] @ int8 [K, N]; sums wrap around at 32 bits."""
    if has_vnni():
        return torch._int_mm(_plain(a), _plain(b))
    if bound < FLOAT32_EXACT:
        return (a.float() @ b.float()).to(torch.int32)
    return (a.double() @ b.double()).to(torch.int64).to(torch.int32)


def _plain(matrix: Tensor) -> Tensor:
    """``matrix`` in row-major order, with matching strides.

    ``contiguous`` keeps any stride of a dimension of size one, and the kernel takes a large stride
    for a transposed matrix.
    """
    return matrix.contiguous().as_strided(matrix.shape, (matrix.shape[1], 1))


@cache
def has_vnni() -> bool:
    """Whether the CPU has AVX512-VNNI, where PyTorch's int8 products do not saturate."""
    return bool(torch.cpu.get_capabilities().get("avx512_vnni", False))
