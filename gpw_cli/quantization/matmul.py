"""Exact products of int8 matrices, by the fastest way this CPU has.

    acc = int8_matmul(a, b, bound)     # int32 [M, N]; bound: no partial sum is larger in magnitude

Three ways, each exact: VNNI's int8 dot products (int32 accumulators, no saturation; older AVX2
kernels saturate at 16 bits and are not used), float32 where every partial sum stays below 2^24,
float64 below 2^53.
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
    """Row by row in memory, with the strides to say so.

    ``contiguous`` leaves any stride on a dimension of size one, and the kernel takes a large one
    for a transposed matrix.
    """
    return matrix.contiguous().as_strided(matrix.shape, (matrix.shape[1], 1))


@cache
def has_vnni() -> bool:
    """Whether the CPU has AVX512-VNNI, whose int8 products PyTorch uses without saturation."""
    return bool(torch.cpu.get_capabilities().get("avx512_vnni", False))
