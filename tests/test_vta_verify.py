"""Every rule that holds between the passes of lowering, broken once, and the sentence it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_vta_passes import NAMES, SPEC, first_state

from gpw_cli.targets.vta.isa.encoding import decode_uops
from gpw_cli.targets.vta.isa.instructions import (
    AluOp,
    FinishInsn,
    GemmInsn,
    MemInsn,
    MemType,
    Opcode,
)
from gpw_cli.targets.vta.isa.modules import QUEUES
from gpw_cli.targets.vta.lowering import passes
from gpw_cli.targets.vta.lowering.state import State
from gpw_cli.targets.vta.lowering.stream import Op
from gpw_cli.targets.vta.lowering.tile_ir import AluStep, Phase, ProductKernel, Term

Spoil = Callable[[State], State]


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    """The state after each pass: conv1 [36], a pool max2, conv3 [36], conv4 [10]."""
    state, found = first_state(), {}
    for one in passes.PASSES:
        state = one.run(state)
        found[one.name] = state
    return found


def problems(name: str, state: State) -> list[str]:
    return list(passes.PASSES[NAMES.index(name)].check(state))


# --- kernels and tensors ------------------------------------------------------------------------


def product(state: State, number: int) -> ProductKernel:
    kernel = state.kernels[number]
    assert isinstance(kernel, ProductKernel)
    return kernel


def term_of(kernel: ProductKernel) -> Term:
    return next(term for term in kernel.phases[-1].terms if term.source is not None)


def in_kernel(number: int, change: Callable[[ProductKernel], ProductKernel]) -> Spoil:
    def spoil(state: State) -> State:
        kernels = list(state.kernels)
        kernels[number] = change(product(state, number))
        return replace(state, kernels=tuple(kernels))

    return spoil


def in_term(number: int, change: Callable[[Term], Term]) -> Spoil:
    def changed(kernel: ProductKernel) -> ProductKernel:
        mine = term_of(kernel)
        phase = kernel.phases[-1]
        terms = tuple(change(term) if term is mine else term for term in phase.terms)
        return replace(kernel, phases=(*kernel.phases[:-1], replace(phase, terms=terms)))

    return in_kernel(number, changed)


def in_tiles(number: int, **changes: Callable[[Any], Any]) -> Spoil:
    """``row=lambda row: row + 3``"""
    return in_term(
        number,
        lambda term: replace(
            term,
            tiles=replace(
                term.tiles,
                **{name: run(getattr(term.tiles, name)) for name, run in changes.items()},
            ),
        ),
    )


def with_step(number: int, step: AluStep) -> Spoil:
    return in_kernel(
        number,
        lambda kernel: replace(
            kernel,
            phases=(*kernel.phases[:-1], replace(kernel.phases[-1], steps=(step,))),
        ),
    )


def with_constant(state: State) -> State:
    """A constant term with the tiles of conv4's input, two of which are not of its first block."""
    kernel = product(state, 3)
    term = replace(term_of(kernel), source=None)
    phases = (*kernel.phases, Phase((term,)))
    return replace(state, kernels=(*state.kernels[:-1], replace(kernel, phases=phases)))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: replace(s, kernels=(*s.kernels, s.kernels[0])), "two kernels are called conv1"),
        (
            lambda s: replace(s, kernels=s.kernels[1:]),
            "max2 reads conv1, which no earlier kernel writes",
        ),
        (lambda s: replace(s, kernels=s.kernels[:-1]), "no kernel writes the output conv4"),
        (
            in_tiles(0, data=lambda d: d[:, :8]),
            "conv1: tiles of (8, 16), the target's are (16, 16)",
        ),
        (in_tiles(0, row=lambda r: r + 1), "conv1: row 3 of 3"),
        (in_tiles(0, row=lambda r: r - 1), "conv1: row 1 of 3"),
        (in_tiles(0, col=lambda c: c + 1), "conv1: column 3 of 3"),
        (with_constant, "conv4: a constant term has one input block"),
    ],
)
def test_kernels(states: dict[str, State], spoil: Spoil, words: str) -> None:
    assert words in problems("legalize", spoil(states["legalize"]))


def test_tiles_have_data(states: dict[str, State]) -> None:
    state = states["legalize"]
    count = len(term_of(product(state, 0)).tiles.data)
    found = problems("legalize", in_tiles(0, data=lambda d: d[:-1])(state))
    assert found == [f"conv1: tile {count - 1} of {count - 1}"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda s: replace(
                s, tensors={**s.tensors, "conv1": replace(s.tensors["conv1"], shape=(36, 8, 9))}
            ),
            "conv1 is (36, 8, 9), its node (36, 8, 8)",
        ),
        (in_tiles(0, out=lambda o: o + 1), "conv1: output block 3 of 3"),
        (in_tiles(0, inp=lambda i: i + 1), "conv1: input block 2 of 2"),
        (with_step(0, AluStep(AluOp.ADD, 1 << 15)), "conv1: operand 32768 of an ALU step"),
        (with_step(0, AluStep(AluOp.ADD, -(1 << 15) - 1)), "conv1: operand -32769 of an ALU step"),
        (with_step(0, AluStep(AluOp.ADD, (1 << 15) - 1)), None),
        (with_step(0, AluStep(AluOp.ADD, -(1 << 15))), None),
        (with_step(0, AluStep(AluOp.ADD, np.zeros(48, np.int64))), None),
        (with_step(0, AluStep(AluOp.ADD, np.zeros(49, np.int64))), "conv1: operand [0 0"),
        (with_step(0, AluStep(AluOp.ADD, 1, blocks=np.ones(3, bool))), None),
        (
            with_step(0, AluStep(AluOp.ADD, 1, blocks=np.ones(4, bool))),
            "conv1: operand 1 of an ALU step",
        ),
    ],
)
def test_tensors(states: dict[str, State], spoil: Spoil, words: str | None) -> None:
    found = problems("declare tensors", spoil(states["declare tensors"]))
    assert [line[: len(words or "")] for line in found] == ([] if words is None else [words])


def stored(name: str, *groups: int) -> Spoil:
    return lambda state: replace(
        state, tensors={**state.tensors, name: replace(state.tensors[name], stored=groups)}
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (stored("conv4"), "only 0 of 1 groups of the output are computed"),
        (stored("conv1", 0, 1), "conv1: tiles for channels that are not computed"),
        (stored("conv1", 0, 1), "max2 reads channels of conv1 that are not computed"),
        (stored("conv3", 1, 2), "conv4 reads channels of conv3 that are not computed"),
    ],
)
def test_liveness(states: dict[str, State], spoil: Spoil, words: str) -> None:
    assert words in problems("remove dead channels", spoil(states["remove dead channels"]))


# --- regions and scratchpads --------------------------------------------------------------------


def region(number: int, **changes: Any) -> Spoil:
    def spoil(state: State) -> State:
        regions = list(state.dram.regions)
        regions[number] = replace(regions[number], **changes)
        return replace(state, dram=replace(state.dram, regions=tuple(regions)))

    return spoil


def test_regions(states: dict[str, State]) -> None:
    state = states["place constants"]
    first, second, third, *_ = state.dram.regions
    assert (first.name, second.name, third.offset % 4096) == ("input", "conv1", 0)

    def found(spoil: Spoil) -> list[str]:
        return problems("place constants", spoil(state))

    odd = found(region(1, offset=second.offset + 1))
    assert odd[0] == f"region conv1 at {second.offset + 1}, the one before ends at {first.length}"
    long = found(region(1, length=third.offset - second.offset + 1))
    assert long == [
        f"region {third.name} at {third.offset}, the one before ends at {third.offset + 1}"
    ]
    assert found(region(1, length=third.offset - second.offset)) == []
    assert "two regions are called input" in found(region(1, name="input"))
    end = state.dram.end
    assert found(lambda s: replace(s, dram=replace(s.dram, end=end + 1))) == [
        f"the regions end at {end}, not at {end + 1}"
    ]
    moved = {**state.tensors, "max2": replace(state.tensors["max2"], offset=0)}
    assert found(lambda s: replace(s, tensors=moved)) == ["tensor max2 is not in its region"]
    offset, data = state.dram.data[0]
    short = ((offset, data[:-1]), *state.dram.data[1:])
    assert found(lambda s: replace(s, dram=replace(s.dram, data=short))) == [
        f"{len(data) - 1} bytes at {offset} fill no region"
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"acc": 0}, "of 2048 accumulators"),
        ({"acc": 2001}, "of 2048 accumulators"),
        ({"acc": 1}, None),
        ({"acc": 2000}, None),
        ({"vectors": 2045}, "of 2048 accumulators"),
        ({"spare": 2043}, "of 2048 accumulators"),
        ({"inp": 0}, "of 2048 input elements"),
        ({"inp": 2048}, "of 2048 input elements"),
        ({"inp": 2047}, None),
        ({"constant": 2048}, "of 2048 input elements"),
        ({"wgt": -1}, "of 1024 weight elements"),
        ({"wgt": 1025}, "of 1024 weight elements"),
        ({"wgt": 0}, None),
    ],
)
def test_scratchpads(states: dict[str, State], changes: dict[str, int], words: str | None) -> None:
    state = states["divide scratchpads"]
    assert state.sram is not None
    sram = state.sram if "vectors" in changes else replace(state.sram, acc=2000, vectors=2000)
    state = replace(state, sram=replace(sram, **changes))
    found = problems("divide scratchpads", state)
    assert len(found) == (words is not None)
    assert words is None or found[0].endswith(words)


def test_scratchpads_that_are_not_divided(states: dict[str, State]) -> None:
    state = replace(states["divide scratchpads"], sram=None)
    assert problems("divide scratchpads", state) == ["the scratchpads are not divided"]


# --- tiles and blocks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (0, {"rows": 0}),
        (0, {"rows": 9}),
        (0, {"cols": 0}),
        (0, {"cols": 9}),
        (0, {"groups": 0}),
        (0, {"groups": 4}),
    ],
)
def test_tilings_of_their_tensor(
    states: dict[str, State], number: int, changes: dict[str, int]
) -> None:
    state = states["tile"]
    tiled = list(state.tiled)
    tiling = replace(tiled[number].tiling, **changes)
    tiled[number] = replace(tiled[number], tiling=tiling)
    found = problems("tile", replace(state, tiled=tuple(tiled)))
    assert found[0] == f"conv1: {tiling} of (3, 8, 8)"


def test_tilings_that_do_not_fit(states: dict[str, State]) -> None:
    state = states["tile"]
    assert state.sram is not None
    assert (
        problems("tile", replace(state, tiled=state.tiled[::-1]))[0] == "not every kernel has tiles"
    )
    small = replace(state, sram=replace(state.sram, acc=8))
    assert [line.partition(":")[0] for line in problems("tile", small)] == [
        "conv1", "max2", "conv3", "conv4",
    ]  # fmt: skip
    assert all(line.endswith("does not fit the scratchpads") for line in problems("tile", small))


def in_piece(state: State, change: Callable[[Any], Any], *, part: bool = False) -> State:
    """With another first piece, or another first part, of conv1."""
    first, *rest = state.tiled
    chunk, *chunks = first.blocks.chunks
    bundle, *bundles = chunk.bundles
    if part:
        bundle = replace(bundle, parts=(change(bundle.parts[0]), *bundle.parts[1:]))
    else:
        (piece, *pieces), *rounds = bundle.rounds
        bundle = replace(bundle, rounds=((change(piece), *pieces), *rounds))
    blocks = replace(first.blocks, chunks=(replace(chunk, bundles=(bundle, *bundles)), *chunks))
    return replace(state, tiled=(replace(first, blocks=blocks), *rest))


def test_blocks(states: dict[str, State]) -> None:
    state = states["block"]
    first = state.tiled[0]
    chunk = first.blocks.chunks[0]
    backwards = replace(chunk, groups=chunk.groups[::-1])
    one = replace(first, blocks=replace(first.blocks, chunks=(backwards, *first.blocks.chunks[1:])))
    turned = problems("block", replace(state, tiled=(one, *state.tiled[1:])))
    everything = [g for c in (backwards, *first.blocks.chunks[1:]) for g in c.groups.tolist()]
    assert (f"conv1: chunks of the groups {everything}" in turned) == (everything != [0, 1, 2])

    piece = chunk.bundles[0].rounds[0][0]
    fewer = in_piece(
        state, lambda p: replace(p, tiles=p.tiles.select(np.arange(1, len(p.tiles.out))))
    )
    assert problems("block", fewer) == [f"conv1: term {piece.term} is not multiplied exactly once"]
    none = in_piece(state, lambda p: replace(p, groups=p.groups[:0]), part=True)
    assert "conv1: a GEMM reads inputs of another bundle" in problems("block", none)
    many = in_piece(state, lambda p: replace(p, groups=np.repeat(p.groups, 30)), part=True)
    assert any(
        line.startswith("conv1: a bundle of ") and line.endswith(f"in {first.tiling.slots} slots")
        for line in problems("block", many)
    )
    short = in_piece(state, lambda p: replace(p, weights=replace(p.weights, count=1)))
    assert problems("block", short) == ["conv1: a weight set of 1 tiles"]
    large = in_piece(state, lambda p: replace(p, weights=replace(p.weights, count=513)))
    assert problems("block", large) == ["conv1: a weight set of 513 tiles"]
    fits = in_piece(state, lambda p: replace(p, weights=replace(p.weights, count=512)))
    assert problems("block", fits) == []
    other = replace(first, blocks=replace(first.blocks, weights=first.blocks.weights + 1))
    wrong = problems("block", replace(state, tiled=(other, *state.tiled[1:])))
    assert set(wrong) == {"conv1: a GEMM has the weights of other tiles"}


# --- instructions -------------------------------------------------------------------------------


def with_op(state: State, number: int, **changes: Any) -> State:
    ops = list(state.ops)
    ops[number] = replace(ops[number], **changes)
    return replace(state, ops=tuple(ops))


def first_op(state: State, wanted: Callable[[Op], bool]) -> tuple[int, Any]:
    return next((n, op.insn) for n, op in enumerate(state.ops) if wanted(op))


def is_load(kind: MemType) -> Callable[[Op], bool]:
    return lambda op: (
        isinstance(op.insn, MemInsn)
        and op.insn.opcode == Opcode.LOAD
        and op.insn.memory_type is kind
        and op.insn.x_size > 0
    )


def is_gemm(op: Op) -> bool:
    return isinstance(op.insn, GemmInsn) and not op.insn.reset


def test_order_of_instructions(states: dict[str, State]) -> None:
    state = states["emit instructions"]
    assert isinstance(state.ops[-1].insn, FinishInsn)
    for ops in ((), state.ops[:-1]):
        assert problems("emit instructions", replace(state, ops=ops)) == [
            "the last instruction is not FINISH"
        ]
    number, op = next((n, op) for n, op in enumerate(state.ops) if op.waits)
    (module, _), *_ = op.waits.items()
    for wait, wrong in ((number, True), (number - 1, False), (-1, True), (0, False)):
        found = problems("emit instructions", with_op(state, number, waits={module: wait}))
        assert bool(found) is wrong
        assert not wrong or found == [f"instruction {number} waits for { {module: wait} }"]
    own = problems("emit instructions", with_op(state, number, waits={op.module: 0}))
    assert own == [f"instruction {number} waits for { {op.module: 0} }"]
    moved = problems("emit instructions", with_op(state, number, module=module))
    assert moved[0].startswith(f"instruction {number} is {op.insn}, not one of {module.name}")


@pytest.mark.parametrize(
    ("kind", "depth"),
    [(MemType.INP, "inp_depth"), (MemType.WGT, "wgt_depth"), (MemType.ACC, "acc_depth")],
)
def test_loads_inside_the_scratchpads(states: dict[str, State], kind: MemType, depth: str) -> None:
    state = states["emit instructions"]
    number, insn = first_op(state, is_load(kind))
    width = insn.x_pad_0 + insn.x_size + insn.x_pad_1
    size = width * (insn.y_pad_0 + insn.y_size + insn.y_pad_1)
    most = getattr(SPEC, depth)
    for base, wrong in ((most - size, False), (most - size + 1, True)):
        found = problems(
            "emit instructions", with_op(state, number, insn=replace(insn, sram_base=base))
        )
        assert bool(found) is wrong
        assert not wrong or found[0].startswith(
            f"instruction {number} uses elements {base} to {base + size} of {most}: "
        )


@pytest.mark.parametrize(
    ("side", "axis", "depth"),
    [("dst", "out", 2048), ("dst", "in", 2048), ("src", "out", 2048), ("src", "in", 2048)],
)
def test_gemms_inside_the_scratchpads(
    states: dict[str, State], side: str, axis: str, depth: int
) -> None:
    state = states["emit instructions"]
    number, insn = first_op(state, is_gemm)
    uops = state.ops[number].uops
    assert uops is not None
    elements = decode_uops(SPEC, uops)[side == "src"]
    still = dict.fromkeys((f"{s}_factor_{a}" for s in ("dst", "src") for a in ("in", "out")), 0)
    room = depth - 1 - int(elements.max())
    for factor, wrong in ((room // 2, False), (room // 2 + 1, True)):
        far = replace(insn, **{**still, f"{side}_factor_{axis}": factor, f"iter_{axis}": 3})
        found = problems("emit instructions", with_op(state, number, insn=far))
        assert bool(found) is wrong
        assert not wrong or found[0].startswith(
            f"instruction {number} uses elements {elements.min()} to "
            f"{elements.max() + 2 * factor + 1} of {depth}: "
        )


def test_tokens(states: dict[str, State]) -> None:
    state = states["insert tokens"]
    late = 0
    for queue in QUEUES:
        flagged = [
            [n for n, op in enumerate(state.ops) if op.module is m and getattr(op.insn, flag)]
            for m, flag in ((queue.source, queue.push), (queue.to, queue.pop))
        ]
        (push, *_), (pop, *_), count = *flagged, len(flagged[0])

        def without(state: State, number: int, flag: str) -> State:
            insn = replace(state.ops[number].insn, **{flag: False})
            return with_op(state, number, insn=insn)

        lost = without(state, pop, queue.pop)
        assert problems("insert tokens", lost) == [
            f"{queue}: {count} tokens are pushed and {count - 1} popped"
        ]
        needed = state.ops[pop].waits[queue.source]
        both = problems("insert tokens", without(lost, push, queue.push))
        assert both[0] == f"{queue}: instruction {pop} does not wait for {needed}"
        behind = [
            n for n, op in enumerate(state.ops) if op.module is queue.source and n > flagged[1][-1]
        ]
        for number in behind[:1]:
            moved = without(state, push, queue.push)
            insn = replace(moved.ops[number].insn, **{queue.push: True})
            found = problems("insert tokens", with_op(moved, number, insn=insn))
            assert f"{queue}: a token is popped before it is pushed" in found
            late += 1
    assert late > 0


def test_addresses(states: dict[str, State]) -> None:
    state = states["load micro-ops"]

    def found(number: int, insn: Any) -> list[str]:
        return problems("load micro-ops", with_op(state, number, insn=insn))

    number, insn = first_op(state, is_load(MemType.WGT))
    (weights,) = [r for r in state.dram.regions if r.name == "conv1.weight"]
    count = weights.length // SPEC.wgt_elem_bytes
    last = weights.offset // SPEC.wgt_elem_bytes + count
    assert found(number, replace(insn, dram_base=last - insn.x_size)) == []
    over = found(number, replace(insn, dram_base=last - insn.x_size + 1))
    assert over[0].startswith(f"instruction {number} leaves region conv1.weight: ")
    wrong = found(number, replace(insn, memory_type=MemType.ACC))
    assert wrong[0].startswith(f"instruction {number} leaves region ")
    store, stored_insn = first_op(
        state, lambda op: isinstance(op.insn, MemInsn) and op.insn.opcode == Opcode.STORE
    )
    (tensor,) = [r for r in state.dram.regions if r.name == "input"]
    inside = replace(stored_insn, dram_base=tensor.offset // 16)
    assert found(store, inside)[0].startswith(f"instruction {store} leaves region input: ")
    gemm, _ = first_op(state, is_gemm)
    assert problems("load micro-ops", with_op(state, gemm, uops=None)) == [
        f"instruction {gemm} runs other micro-ops than its own"
    ]


def test_layers(states: dict[str, State]) -> None:
    state = states["sort by layer"]
    first, second, *rest = state.layers

    def found(*layers: Any) -> list[str]:
        return problems("sort by layer", replace(state, layers=layers))

    names = [layer.name for layer in state.layers]
    assert found(second, first, *rest)[0] == f"layers {[names[1], names[0], *names[2:]]}"
    late = replace(second, begin=second.begin + 1)
    assert found(first, late, *rest) == [f"{second.name} is {late.begin} to {late.end}"]
    longer = replace(first, end=first.end + 1)
    assert found(longer, second, *rest) == [
        f"{first.name} is 0 to {longer.end}",
        f"{second.name} is {second.begin} to {second.end}",
    ]
    *before, last = state.layers
    shorter = replace(last, end=last.end - 1)
    assert found(*before, shorter) == [
        f"the layers end at {last.end - 1} of {last.end} instructions"
    ]
