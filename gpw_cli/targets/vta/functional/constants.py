"""Constants in the scratchpads, and GEMM micro-ops that are not planned yet.

Inputs and accumulators that come from constants (padding, resets, biases) are the same for all
images. Their values are kept here, and whatever follows from them alone is computed here. GEMM
micro-ops are collected until something reads their accumulators or overwrites their inputs; then
they become matrix products (``gemm_groups.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Bools, Int8, Int64
from gpw_cli.targets.vta.functional.gemm_groups import MatrixProduct, matrix_products
from gpw_cli.targets.vta.functional.matmul import Block, Matmul
from gpw_cli.targets.vta.functional.steps import Lanes, PlanStep, SetAccumulators
from gpw_cli.targets.vta.functional.strided import Rows
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.program import Bytes


class Constants:
    """``mask`` [depth]: which elements are constant; ``value`` [depth, lanes]: their values."""

    def __init__(self, depth: int, lanes: int, dtype: type[np.int8] | type[np.int32]) -> None:
        self.mask: Bools = np.ones(depth, np.bool_)  # a scratchpad is zero at the start
        self.value: NDArray[Any] = np.zeros((depth, lanes), dtype)

    def set(self, index: Int64, value: NDArray[Any] | np.int8 | np.int32) -> None:
        """The elements ``index`` now hold ``value``."""
        self.mask[index] = True
        self.value[index] = value

    def forget(self, index: Int64) -> None:
        """The elements ``index`` now depend on the image."""
        self.mask[index] = False

    def uniform(self, index: Int64) -> NDArray[Any] | None:
        """The value [lanes] that all of ``index`` hold; None if they differ."""
        value = self.value[index]
        if self.mask[index].all() and (value == value[0]).all():
            shared: NDArray[Any] = value[0].copy()
            return shared
        return None


class Scratchpads:
    """The input and accumulator scratchpads; appends plan steps to ``steps``."""

    def __init__(self, spec: VtaSpec, dram: Bytes, steps: list[PlanStep]) -> None:
        self.spec, self.dram, self.steps = spec, dram, steps
        self.inputs = Constants(spec.inp_depth, spec.batch * spec.block_in, np.int8)
        self.accumulators = Constants(spec.acc_depth, spec.batch * spec.block_out, np.int32)
        self._pending: list[tuple[Int64, Int64, Int64]] = []
        self._pending_dst: Bools = np.zeros(spec.acc_depth, np.bool_)
        self._pending_src: Bools = np.zeros(spec.inp_depth, np.bool_)

    def collect(self, dst: Int64, src: Int64, tile: Int64) -> None:
        """Collects GEMM micro-ops, int64 [n] each; ``tile``: DRAM element of the weight tile."""
        self._pending.append((dst, src, tile))
        self._pending_dst[dst] = True
        self._pending_src[src] = True

    def before_loading(self, inputs: Int64) -> None:
        """Called before input elements are overwritten."""
        if self._pending_src[inputs].any():
            self.flush()

    def before_reading(self, accumulators: Int64) -> None:
        """Called before accumulators are read or overwritten."""
        if self._pending_dst[accumulators].any():
            self.flush()

    def materialise(self, accumulators: Int64) -> None:
        """Writes the constants of these accumulators to the machine."""
        self.before_reading(accumulators)
        known = np.unique(accumulators[self.accumulators.mask[accumulators]])
        if len(known):
            value = self.accumulators.uniform(known)
            if value is None:
                value = self.accumulators.value[known]
            self.steps.append(SetAccumulators(Rows(known), value))
            self.accumulators.forget(known)

    def flush(self) -> None:
        """Plans the collected GEMM micro-ops."""
        dst, src, tile = (np.concatenate(part) for part in zip(*self._pending, strict=True))
        self._pending.clear()
        self._pending_dst[:], self._pending_src[:] = False, False
        for product in matrix_products(dst, src, tile):
            self._plan(product)

    def _plan(self, product: MatrixProduct) -> None:
        weight = np.concatenate([self._weight(tiles) for _, tiles in product.blocks], axis=2)
        starts = [self.accumulators.uniform(dst) for dst, _ in product.blocks]
        src = product.src
        if all(start is not None for start in starts):
            src, weight, starts = self._without_constants(src, weight, starts)
        blocks = tuple(
            Block(dst, start) for (dst, _), start in zip(product.blocks, starts, strict=True)
        )
        for block in blocks:
            if block.start is None:
                self.materialise(block.dst)
            elif src.shape[1]:
                self.accumulators.forget(block.dst)
            else:
                self.accumulators.set(block.dst, block.start)
        if src.shape[1]:
            self.steps.append(Matmul(src, weight.reshape(-1, weight.shape[2]), blocks))

    def _without_constants(
        self, src: Int64, weight: Int8, starts: list[Lanes | None]
    ) -> tuple[Int64, Int8, list[Lanes | None]]:
        """Moves the part of the sums that comes from constant inputs to ``starts``."""
        candidates = np.flatnonzero(self.inputs.mask[src].all(axis=0))
        total = np.concatenate([start for start in starts if start is not None]).astype(np.int64)
        total = total.reshape(len(starts), self.spec.batch, -1)
        folded = []
        for k in candidates.tolist():
            value = self.inputs.uniform(src[:, k])
            if value is not None:
                rows = value.reshape(self.spec.batch, -1).astype(np.int64)
                part = rows @ weight[k].astype(np.int64)
                total += part.reshape(self.spec.batch, len(starts), -1).transpose(1, 0, 2)
                folded.append(k)
        values = total.reshape(len(starts), -1).astype(np.uint32).view(np.int32)
        return np.delete(src, folded, axis=1), np.delete(weight, folded, axis=0), list(values)

    def _weight(self, tiles: Int64) -> Int8:
        """Tiles [K] -> int8 [K, block_in, block_out]."""
        size = self.spec.wgt_elem_bytes
        data = self.dram[tiles[:, None] * size + np.arange(size)].view(np.int8)
        data = data.reshape(-1, self.spec.block_out, self.spec.block_in)
        weight: Int8 = data.transpose(0, 2, 1)
        return weight
