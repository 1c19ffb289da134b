"""The passes of lowering: each leaves what it was given as it was, and each has a verifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from integer_graphs import GraphMaker
from vta_programs import timing, vta_spec

from gpw_cli.errors import ProgramError
from gpw_cli.graph.integer import Rescale
from gpw_cli.targets.vta.isa.encoding import encode
from gpw_cli.targets.vta.isa.instructions import AluOp, GemmInsn, MemInsn, MemType
from gpw_cli.targets.vta.lowering import passes
from gpw_cli.targets.vta.lowering.layout import DramImage
from gpw_cli.targets.vta.lowering.state import State
from gpw_cli.targets.vta.lowering.tile_ir import AluStep, ProductKernel
from gpw_cli.targets.vta.target import unit_costs

SPEC = vta_spec()
NAMES = [one.name for one in passes.PASSES]


def first_state() -> State:
    maker = GraphMaker((20, 8, 8))
    each = Rescale(np.array([7, 9] * 18, np.int32), True, -128, 127)
    x = maker.conv("input", 36, keep=0.5, rescale=each, relu=False)
    y = maker.conv(maker.max_pool(x), 36, keep=0.5, bias=2**20)
    maker.conv(y, 10, bits=32, relu=False)
    return State(maker.graph(), SPEC, unit_costs(SPEC, timing()))


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    """The state after each pass."""
    state, found = first_state(), {}
    for one in passes.PASSES:
        state = one.run(state)
        found[one.name] = state
    return found


def run_from(number: int, state: State) -> State:
    for one in passes.PASSES[number:]:
        state = one.run(state)
    return state


def problems(name: str, state: State) -> list[str]:
    return list(passes.PASSES[NAMES.index(name)].check(state))


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_changes_nothing_in_its_state(states: dict[str, State], name: str) -> None:
    """Two runs from the same state, after all the later passes have seen it, are equal."""
    again = run_from(NAMES.index(name) + 1, states[name])
    last = states[NAMES[-1]]
    assert encode(SPEC, [op.insn for op in again.ops]) == encode(SPEC, [op.insn for op in last.ops])
    assert again.dram.bytes().tobytes() == last.dram.bytes().tobytes()
    assert problems(name, states[name]) == []


def without_first_kernel(state: State) -> State:
    return replace(state, kernels=state.kernels[1:])


def moved_tiles(state: State) -> State:
    """The first kernel's tiles one output block further."""
    kernel = state.kernels[0]
    assert isinstance(kernel, ProductKernel)
    phase = kernel.phases[0]
    term = phase.terms[-1]
    tiles = replace(term.tiles, out=term.tiles.out + 3)
    phase = replace(phase, terms=(*phase.terms[:-1], replace(term, tiles=tiles)))
    first = replace(kernel, phases=(phase, *kernel.phases[1:]))
    return replace(state, kernels=(first, *state.kernels[1:]))


def large_immediate(state: State) -> State:
    kernel = state.kernels[-1]
    assert isinstance(kernel, ProductKernel)
    phase = kernel.phases[-1]
    step = AluStep(AluOp.ADD, 1 << 15)
    last = replace(kernel, phases=(*kernel.phases[:-1], replace(phase, steps=(step,))))
    return replace(state, kernels=(*state.kernels[:-1], last))


def channels_not_stored(state: State) -> State:
    name = state.kernels[0].name
    tensors = {**state.tensors, name: replace(state.tensors[name], stored=())}
    return replace(state, tensors=tensors)


def region_on_another(state: State) -> State:
    first, second, *rest = state.dram.regions
    regions = (first, replace(second, offset=first.offset), *rest)
    return replace(state, dram=replace(state.dram, regions=regions))


def tensor_elsewhere(state: State) -> State:
    name = state.kernels[0].name
    moved = replace(state.tensors[name], offset=1 << 20)
    return replace(state, tensors={**state.tensors, name: moved})


def tiles_over_the_vectors(state: State) -> State:
    assert state.sram is not None
    return replace(state, sram=replace(state.sram, acc=state.sram.vectors + 1))


def whole_tensor_as_one_tile(state: State) -> State:
    first, *rest = state.tiled
    tiling = replace(first.tiling, rows=first.out.shape[1] + 1)
    return replace(state, tiled=(replace(first, tiling=tiling), *rest))


def chunk_left_out(state: State) -> State:
    first, *rest = state.tiled
    blocks = replace(first.blocks, chunks=first.blocks.chunks[:-1])
    return replace(state, tiled=(replace(first, blocks=blocks), *rest))


def weights_of_other_tiles(state: State) -> State:
    first, *rest = state.tiled
    blocks = replace(first.blocks, weights=first.blocks.weights[::-1])
    return replace(state, tiled=(replace(first, blocks=blocks), *rest))


def constants_lost(state: State) -> State:
    return replace(state, dram=DramImage())


def waits_for_the_future(state: State) -> State:
    first, *rest = state.ops
    waits = {module: 5 for op in rest for module in op.waits}
    return replace(state, ops=(replace(first, waits=waits), *rest))


def no_finish(state: State) -> State:
    return replace(state, ops=state.ops[:-1])


def without_tokens(state: State) -> State:
    cleared = [
        replace(op, insn=replace(op.insn, pop_prev=False, push_prev=False)) for op in state.ops
    ]
    return replace(state, ops=tuple(cleared))


def micro_ops_of_another(state: State) -> State:
    ops = list(state.ops)
    number = next(
        n for n, op in enumerate(ops) if isinstance(op.insn, GemmInsn) and op.insn.uop_bgn
    )
    insn = ops[number].insn
    assert isinstance(insn, GemmInsn)
    ops[number] = replace(ops[number], insn=replace(insn, uop_bgn=0, uop_end=1))
    return replace(state, ops=tuple(ops))


def load_beyond_its_region(state: State) -> State:
    ops = list(state.ops)
    number = next(
        n
        for n, op in enumerate(ops)
        if isinstance(op.insn, MemInsn) and op.insn.memory_type is MemType.WGT
    )
    insn = ops[number].insn
    assert isinstance(insn, MemInsn)
    ops[number] = replace(ops[number], insn=replace(insn, x_size=900))
    return replace(state, ops=tuple(ops))


def layers_swapped(state: State) -> State:
    return replace(state, layers=state.layers[::-1])


BROKEN = [
    ("legalize", without_first_kernel),
    ("declare tensors", moved_tiles),
    ("declare tensors", large_immediate),
    ("remove dead channels", channels_not_stored),
    ("place tensors", region_on_another),
    ("place tensors", tensor_elsewhere),
    ("divide scratchpads", tiles_over_the_vectors),
    ("tile", whole_tensor_as_one_tile),
    ("block", chunk_left_out),
    ("block", weights_of_other_tiles),
    ("place constants", constants_lost),
    ("emit instructions", waits_for_the_future),
    ("emit instructions", no_finish),
    ("insert tokens", without_tokens),
    ("load micro-ops", micro_ops_of_another),
    ("load micro-ops", load_beyond_its_region),
    ("sort by layer", layers_swapped),
]


@pytest.mark.parametrize(("name", "spoil"), BROKEN, ids=[spoil.__name__ for _, spoil in BROKEN])
def test_a_verifier_finds_what_is_broken(
    states: dict[str, State], name: str, spoil: Callable[[State], State]
) -> None:
    assert problems(name, spoil(states[name])) != []


def test_every_pass_has_a_broken_state_here() -> None:
    assert [name for name in NAMES if name not in {name for name, _ in BROKEN}] == []


def test_a_fault_of_a_pass_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    number = NAMES.index("place tensors")
    right = passes.PASSES[number]
    faulty = replace(right, run=lambda state: region_on_another(right.run(state)))
    spoiled = (*passes.PASSES[:number], faulty, *passes.PASSES[number + 1 :])
    monkeypatch.setattr(passes, "PASSES", spoiled)
    start = first_state()
    with pytest.raises(ProgramError, match="place tensors"):
        passes.lower(start.graph, start.spec, start.costs)
