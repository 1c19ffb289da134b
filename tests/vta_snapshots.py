"""What the compiler makes of small networks, in numbers: ``data/programs.json`` holds them.

    python tests/vta_snapshots.py > tests/data/programs.json     # after a change that is meant

The results of simulations in a store are keyed by the compiler's version (``tile_search`` and the
version of the stage simulate), not by its source: a program that changes without a new version
leaves old cycles in place.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from integer_graphs import GraphMaker
from vta_programs import compile_graph, timing, vta_spec

from gpw_cli.graph.integer import (
    FULL_RANGE,
    IntConcat,
    IntGraph,
    IntMaxPool,
    IntSelect,
    IntUpsample,
    Rescale,
)
from gpw_cli.targets.vta.isa.encoding import decode
from gpw_cli.targets.vta.isa.instructions import AluInsn, GemmInsn
from gpw_cli.targets.vta.isa.program import Program
from gpw_cli.targets.vta.timing.report import time_program

SPECS = {
    "default": vta_spec(),
    "narrow": vta_spec(log_block_in=3, log_block_out=3, log_acc_buff_size=15, log_wgt_buff_size=15),
    "in wider": vta_spec(log_block_in=5),
    "out wider": vta_spec(log_block_in=3, log_inp_buff_size=14, log_wgt_buff_size=17),
    "tiny": vta_spec(log_inp_buff_size=10, log_wgt_buff_size=12, log_acc_buff_size=12),
    "few micro-ops": vta_spec(log_uop_buff_size=8),
    "two rows": vta_spec(log_batch=1),
}
LOGITS = Rescale(0, False, *FULL_RANGE)
SIGNED = Rescale(9, True, -128, 127)


def residual(maker: GraphMaker) -> None:
    """Shortcuts of all kinds, half of the tiles gone."""
    x = maker.conv("input", 16)
    x = maker.conv(maker.conv(x, 16, keep=0.5), 16, keep=0.5, residual=x, residual_shift=8)
    pad = maker.pad(x, 2, 8, 8)
    y = maker.conv(maker.conv(x, 32, stride=2, keep=0.5), 32, keep=0.5, residual=pad,
                   residual_shift=5)  # fmt: skip
    side = maker.conv(y, 40, 1, stride=2, relu=False, rescale=Rescale(8, True, -128, 127))
    z = maker.conv(maker.conv(y, 40, stride=2), 40, relu=False, rescale=SIGNED)
    z = maker.relu(maker.max_pool(maker.add(z, side, 2, 0), 3, 1, 1))
    maker.conv(maker.avg_pool(z, 3, shift=3), 10, 1, relu=False, bits=32)


def shortcuts(maker: GraphMaker) -> None:
    """Shortcuts before and after the shift, by more than a tile holds, and to the right."""
    x = maker.conv("input", 32)
    for shift, right in ((9, 9), (7, 9), (12, 10), (-3, 9), (0, 4)):
        rescale = Rescale(right, True, 0, 127)
        x = maker.conv(x, 32, 1, residual=x, residual_shift=shift, rescale=rescale)
    each = np.arange(32, dtype=np.int32) % 7 + 2
    maker.conv(x, 32, 1, residual=x, residual_shift=each, rescale=Rescale(each, True, -128, 127),
               relu=False)  # fmt: skip


def rescales(maker: GraphMaker) -> None:
    """Shifts of each channel, of both signs, clips that blocks do not reach, large biases."""
    each = np.array([7, 9, 8, 10, 6, 9] * 4, np.int32)[:20]
    mixed = np.array([-2, 0, 3, 9] * 5, np.int32)
    x = maker.conv("input", 20, rescale=Rescale(each, True, 0, 127))
    x = maker.conv(x, 20, relu=False, rescale=Rescale(mixed, True, -128, 127))
    x = maker.conv(x, 20, bias=400_000, rescale=Rescale(12, False, -128, 127), relu=False)
    x = maker.conv(x, 20, bias=2**31 - 1, rescale=Rescale(20, True, 0, 127))
    x = maker.conv(x, 20, 1, rescale=Rescale(-20, True, 0, 127))
    x = maker.conv(x, 20, 1, bias=0, rescale=Rescale(2, True, 3, 90))
    maker.conv(x, 20, 1, relu=False, rescale=Rescale(3, True, -(2**15), 2**15 - 1), bits=16)


def moves(maker: GraphMaker) -> None:
    """Joined, chosen and repeated channels: copied, and read by convolutions only."""
    a, b = maker.conv("input", 20), maker.conv("input", 12, 1)
    shape = maker.shape_of(a)
    joined = maker._add(IntConcat("joined", (a, b), (32, *shape[1:])))
    x = maker.conv(joined, 24, 3, stride=2)
    order = np.arange(24).reshape(2, 12).T.ravel()
    chosen = maker._add(IntSelect("chosen", x, order, maker.shape_of(x)))
    y = maker.conv(chosen, 24, 1, relu=False, rescale=SIGNED)
    copied = maker._add(IntSelect("copied", x, order[::-1].copy(), maker.shape_of(x)))
    z = maker.add(y, copied, 0, 2)
    _, high, wide = maker.shape_of(z)
    maker._add(IntUpsample("up", z, (2, 3), (24, 2 * high, 3 * wide)))
    maker.conv("up", 10, 3, relu=False, bits=32)


def pools(maker: GraphMaker) -> None:
    """Pools of any window, with a ReLU before and without, and a pad that is a layer."""
    x = maker.conv("input", 24, relu=False, rescale=SIGNED)
    x = maker.max_pool(x, 3, 2, 1)
    rows, cols = maker.shape_of(x)[1:]
    x = maker._add(IntMaxPool("tall", x, (3, 2), (1, 1), (1, 0), (24, rows, cols - 1)))
    x = maker.avg_pool(x, 2, 1, 0, 2)
    x = maker.max_pool(maker.conv(x, 24), 2, 2, 0)
    x = maker.pad(x, 1, 3, 5)
    maker.avg_pool(x, 2, 1, 1, 2)


def streamed(maker: GraphMaker) -> None:
    """Weights and inputs beyond the scratchpads, and a classifier as large as the image."""
    x = maker.conv("input", 96, 3)
    x = maker.conv(maker.conv(x, 96, 3, keep=0.7, tile=16), 64, 5, stride=2, keep=0.5, tile=16)
    maker.conv(x, 30, maker.shape_of(x)[1:], padding=0, relu=False, bits=32)


def dead(maker: GraphMaker) -> None:
    """A layer without weights, one that nobody reads, constant channels beside a shortcut."""
    x = maker.conv("input", 32)
    none = maker.conv(x, 32, keep=0.0)
    y = maker.conv(none, 32, residual=x, residual_shift=6)
    maker.conv(y, 48, 1, keep=0.0, relu=False, rescale=SIGNED)
    z = maker.conv(y, 32, keep=0.2, tile=16, residual=none, residual_shift=4)
    maker.conv(z, 10, 1, relu=False, bits=32)


def firsts(maker: GraphMaker) -> None:
    """A first layer whose window the host lays out, read by another layer too."""
    maker.conv("input", 16, 7, 2, 3)
    maker.conv(maker.nodes[-1].name, 10, 1, relu=False, bits=32)


Make = Callable[[GraphMaker], None]
NETWORKS: dict[str, tuple[Make, tuple[int, int, int], tuple[str, ...]]] = {
    "residual": (residual, (3, 9, 9), ("default", "narrow", "in wider", "out wider", "two rows")),
    "shortcuts": (shortcuts, (3, 6, 5), ("default", "two rows")),
    "rescales": (rescales, (3, 6, 6), ("default", "narrow")),
    "moves": (moves, (3, 8, 6), ("default", "narrow")),
    "pools": (pools, (5, 11, 9), ("default", "in wider")),
    "streamed": (streamed, (20, 9, 8), ("default", "few micro-ops", "tiny")),
    "dead": (dead, (3, 7, 6), ("default",)),
    "firsts": (firsts, (3, 14, 14), ("default", "narrow")),
}


def network(name: str) -> IntGraph:
    make, shape, _ = NETWORKS[name]
    maker = GraphMaker(shape, seed=len(name))
    make(maker)
    return maker.graph()


def cases() -> list[tuple[str, str]]:
    """(network, geometry)."""
    return [(name, spec) for name, (_, _, specs) in NETWORKS.items() for spec in specs]


def numbers(made: Program) -> dict[str, Any]:
    """What a program takes, and a checksum of its bytes."""
    insns = decode(made.spec, made.insn)
    kinds = Counter(type(insn).__name__.removesuffix("Insn").lower() for insn in insns)
    uops = {
        kind.__name__: sum(
            (insn.uop_end - insn.uop_bgn) * insn.iter_out * insn.iter_in
            for insn in insns
            if isinstance(insn, kind)
        )
        for kind in (GemmInsn, AluInsn)
    }
    time = time_program(made, timing())
    content = made.insn + made.dram.tobytes()
    return {
        "instructions": dict(sorted(kinds.items())),
        "roles": dict(sorted(Counter(made.roles).items())),
        "gemm": uops["GemmInsn"],
        "alu": uops["AluInsn"],
        "cycles": time.cycles,
        "layers": {layer.name: layer.end - layer.begin for layer in made.layers},
        "regions": {f"{r.name} ({r.kind})": list(r.shape) for r in made.regions},
        "input": json.loads(json.dumps(asdict(made.input_layout))),
        "sha256": hashlib.sha256(content).hexdigest()[:16],
    }


def program(name: str, spec: str) -> Program:
    return compile_graph(network(name), SPECS[spec])


if __name__ == "__main__":
    lines = [f'"{n}, {s}": {json.dumps(numbers(program(n, s)))}' for n, s in cases()]
    print("{\n" + ",\n".join(lines) + "\n}")
