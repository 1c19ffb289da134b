"""The nine layers of EIE's benchmark as random matrices, timed on a given EIE.

    layer = random_layer(BENCHMARK[0], seed=0)
    time_random(layer, load_target("eie", EieConfig)).cycles

The densities of weights and activations are the authors'. Which values survive is drawn uniformly,
so a column is more regular than a trained one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Bools
from gpw_cli.graph.codebook import Codes
from gpw_cli.targets.eie.config import EieConfig
from gpw_cli.targets.eie.csc import encode
from gpw_cli.targets.eie.matrix import Blocks, slices_of
from gpw_cli.targets.eie.timing import Counts, time_pass


@dataclass(frozen=True)
class Bench:
    """One fully connected layer. Densities in 0..1; the published times in microseconds.

    ``recalled``: the densities are recollections, not read in a public text. So are all the times.
    """

    name: str
    inputs: int
    outputs: int
    weights: float
    activations: float
    theoretical_us: float
    actual_us: float
    recalled: bool


BENCHMARK = (
    Bench("Alex-6", 9216, 4096, 0.09, 0.351, 28.1, 30.3, False),
    Bench("Alex-7", 4096, 4096, 0.09, 0.353, 11.7, 12.2, False),
    Bench("Alex-8", 4096, 1000, 0.25, 0.375, 8.9, 9.9, False),
    Bench("VGG-6", 25088, 4096, 0.04, 0.183, 28.1, 34.4, False),
    Bench("VGG-7", 4096, 4096, 0.04, 0.375, 7.9, 8.7, True),
    Bench("VGG-8", 4096, 1000, 0.23, 0.411, 7.3, 8.4, True),
    Bench("NT-We", 4096, 600, 0.10, 1.0, 5.2, 8.0, True),
    Bench("NT-Wd", 600, 8791, 0.11, 1.0, 13.0, 13.9, True),
    Bench("NT-LSTM", 1201, 2400, 0.10, 1.0, 6.5, 7.5, True),
)


@dataclass(frozen=True, eq=False)
class RandomLayer:
    """codes uint8 [outputs, inputs]; active bool [inputs, 1]."""

    codes: Codes
    active: Bools


def random_layer(bench: Bench, seed: int) -> RandomLayer:
    """Every weight and every activation is kept independently, with its density."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(1, 16, (bench.outputs, bench.inputs), dtype=np.uint8)
    codes *= rng.random(codes.shape, dtype=np.float32) < bench.weights
    return RandomLayer(codes, rng.random((bench.inputs, 1)) < bench.activations)


def entries_of(layer: RandomLayer, config: EieConfig) -> Blocks:
    """The layer's blocks, of any size: sweeps go beyond what 16-bit pointers reach."""
    return tuple(
        tuple(encode(block, config.pes, config.index_bits) for block in row)
        for row in slices_of(layer.codes, config)
    )


def time_random(layer: RandomLayer, config: EieConfig, blocks: Blocks | None = None) -> Counts:
    """One vector through the layer, without a bias; ``blocks``: of ``entries_of``, if at hand."""
    total = Counts()
    found = entries_of(layer, config) if blocks is None else blocks
    for batches in found:
        total = total + time_pass(batches, layer.active, config, moved=len(found) > 1, biased=False)
    return total
