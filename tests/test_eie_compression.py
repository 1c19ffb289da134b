"""EIE's compression: shared values, compressed columns, SRAM contents, storage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpw_cli.errors import ProgramError, UnsupportedError, UsageError
from gpw_cli.graph.codebook import share
from gpw_cli.targets.eie.csc import decode, encode
from gpw_cli.targets.eie.matrix import blocks_of, storage_of
from gpw_cli.targets.eie.memory import pack, storage, unpack
from tests.small_targets import eie

SHAPES = st.tuples(st.integers(1, 90), st.integers(1, 20))


@st.composite
def matrices(draw: st.DrawFn) -> Any:
    """Codes with every density from empty to full."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(SHAPES)
    kept = rng.random(shape) < draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]))
    return np.where(kept, rng.integers(1, 16, shape), 0).astype(np.uint8)


def test_the_column_of_papers_002() -> None:
    column = np.array([[0, 0, 1, 2, *[0] * 18, 3]], np.uint8).T
    packed = encode(column, pes=1, index_bits=4)
    assert packed.codes.tolist() == [1, 2, 0, 3]
    assert packed.runs.tolist() == [2, 0, 15, 2]
    assert packed.pointers.tolist() == [[0, 4]]


def test_the_papers_own_text_has_that_column(shared: Path) -> None:
    text = next((shared / "papers").glob("002*.txt")).read_text(encoding="utf-8")
    numbers = text.split("$$ [")[1].split("]")[0].split(",")
    packed = encode(np.array([numbers], np.uint8).T, pes=1, index_bits=4)
    assert (packed.codes.tolist(), packed.runs.tolist()) == ([1, 2, 0, 3], [2, 0, 15, 2])


def test_rows_are_interleaved_over_the_pes() -> None:
    codes = np.zeros((8, 3), np.uint8)
    codes[1, 0], codes[5, 0], codes[7, 0], codes[4, 2] = 3, 4, 5, 6
    packed = encode(codes, pes=4, index_bits=4)
    assert packed.counts.tolist() == [[0, 0, 1], [2, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert packed.codes.tolist() == [6, 3, 4, 5]
    assert packed.runs.tolist() == [1, 0, 0, 1]


@given(matrices(), st.integers(1, 9), st.integers(1, 8), st.sampled_from([16, 24, 64, 128]))
def test_round_trip_through_the_srams(codes: Any, pes: int, bits: int, line: int) -> None:
    config = eie(pes=pes, index_bits=bits, sram_bits=line)
    packed = encode(codes, pes, bits)
    assert np.array_equal(decode(packed), codes)
    images = pack(packed, config)
    again = unpack(images, len(codes), config)
    assert np.array_equal(again.codes, packed.codes)
    assert np.array_equal(again.runs, packed.runs)
    assert np.array_equal(again.counts, packed.counts)


@given(matrices(), st.integers(1, 9), st.integers(1, 6))
def test_storage_is_the_formula(codes: Any, pes: int, bits: int) -> None:
    config = eie(pes=pes, index_bits=bits)
    entries = 0
    for pe in range(pes):
        for column in codes[pe::pes].T:
            zeros = 0
            for code in column:
                if code:
                    entries += 1 + zeros // 2**bits
                    zeros = 0
                else:
                    zeros += 1
    found = storage(encode(codes, pes, bits), config)
    assert found.entries == entries
    assert found.padding == entries - np.count_nonzero(codes)
    assert found.entry_bits == entries * (4 + bits)
    assert found.pointer_bits == pes * (codes.shape[1] + 1) * 16


def test_an_entry_lies_where_its_pointer_says() -> None:
    """Line and entry of a line: 13 and 3 bits; columns take turns in two banks."""
    codes = np.zeros((40, 3), np.uint8)
    codes[:11, 0], codes[3, 2] = 9, 14
    image = pack(encode(codes, 1, 4), eie(pes=1))[0]
    assert image.even.tolist() == [0, 11]
    assert image.odd.tolist() == [11, 12]
    assert image.weights.shape == (2, 8)
    assert image.weights[1].tolist() == [9, 9, 9, 3 << 4 | 14, 0, 0, 0, 0]
    odd = eie(pes=1, index_bits=6, sram_bits=32)  # 10-bit entries, 3 a line
    address = pack(encode(codes, 1, 6), odd)[0].even
    assert address.tolist() == [0, 3 << 2 | 2]


def test_a_pointer_of_16_bits_reaches_65528_entries() -> None:
    config = eie(pes=1, registers=4096)
    assert config.max_entries == 65528
    full = np.ones((4096, 16), np.uint8)
    assert len(pack(encode(full[:, :15], 1, 4), config)) == 1
    with pytest.raises(UnsupportedError, match="65,536 entries"):
        pack(encode(full, 1, 4), config)


def test_damaged_pointers_and_runs_are_refused() -> None:
    config = eie(pes=2)
    packed = encode(np.eye(6, 5, dtype=np.uint8), 2, 4)
    first, second = pack(packed, config)
    back = replace(first, odd=np.array([7, 0, 0], np.uint16))
    with pytest.raises(ProgramError, match="PE 0"):
        unpack([back, second], 6, config)
    with pytest.raises(ProgramError, match="of 6 rows"):
        decode(replace(packed, runs=packed.runs + np.uint8(9)))


def test_blocks_split_a_matrix_by_the_register_files() -> None:
    config = eie(pes=2, registers=4)
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 16, (19, 21)).astype(np.uint8)
    blocks = blocks_of(codes, config)
    assert [[(b.rows, b.columns) for b in row] for row in blocks][::2] == [
        [(8, 8), (8, 8), (8, 5)],
        [(3, 8), (3, 8), (3, 5)],
    ]
    assert np.array_equal(np.block([[decode(b) for b in row] for row in blocks]), codes)
    assert storage_of(blocks, config).weights == 19 * 21
    assert storage_of(blocks, config).pointer_bits == 3 * 2 * (9 + 9 + 6) * 16


def test_weight_sharing_keeps_zeros_and_few_values() -> None:
    weight = np.array([[0.0, -3.0, 2.0], [2.0, 0.0, 0.5]])
    found = share(weight, 4)
    assert found.codes.tolist() == [[0, 1, 3], [3, 0, 2]]
    assert found.values[:4].tolist() == [0.0, -3.0, 0.5, 2.0]
    assert share(np.zeros((2, 2)), 4).codes.tolist() == [[0, 0], [0, 0]]


def test_k_means_from_equal_distances() -> None:
    """Two bits: three centres start at -4, 0 and 4 and end at the means of their neighbours."""
    weight = np.array([-4.0, -3.5, -0.5, 0.25, 0.5, 1.0, 4.0])
    found = share(weight, 2)
    assert found.values.tolist() == [0.0, -3.75, 0.3125, 4.0]
    assert found.codes.tolist() == [1, 1, 2, 2, 2, 2, 3]


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_shared_weights_are_the_nearest_and_the_mean(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=400) * (rng.random(400) < 0.5)
    found = share(weight, bits)
    assert np.array_equal(found.codes == 0, weight == 0)
    centres = found.values[1:]
    nearest = np.abs(weight[:, None] - centres).min(axis=1)
    assert np.allclose(np.abs(weight - found.decode())[weight != 0], nearest[weight != 0])
    for code in np.unique(found.codes[found.codes > 0]):
        assert np.isclose(weight[found.codes == code].mean(), found.values[code])


@pytest.mark.parametrize(
    ("setting", "value"), [("pes", 0), ("queue_depth", 0), ("index_bits", 9), ("clock_mhz", 0)]
)
def test_numbers_out_of_range_are_named(setting: str, value: int) -> None:
    with pytest.raises(UsageError, match=f"target.{setting}={value}"):
        eie(**{setting: value})
    with pytest.raises(UsageError, match="holds no entry of 8 bits"):
        eie(sram_bits=7)
