"""Exported programs: the four files, reading them back, and folders that are not ours."""

from __future__ import annotations

import json

import numpy as np
import pytest
from vta_reference import SMALL, Interpreter, small_program

from gpw_cli.errors import DataError, ProgramError, UsageError
from gpw_cli.targets.vta.export import export_program, load_exported
from gpw_cli.targets.vta.functional.simulator import simulate
from gpw_cli.targets.vta.isa.instructions import GemmInsn

IMAGE = np.arange(-16, 16, dtype=np.int8).reshape(8, 2, 2)


@pytest.fixture
def program():
    uops = (np.arange(8), np.arange(8), np.arange(8))
    body = [GemmInsn(uop_bgn=0, uop_end=8, iter_out=2)]
    return small_program(SMALL, body, uops, np.random.default_rng(1), output_bits=16)


def test_there_and_back(program, tmp_path):
    folder = tmp_path / "out"
    export_program(program, IMAGE, folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        "dram.bin",
        "expected.bin",
        "insn.bin",
        "manifest.json",
    ]
    back = load_exported(folder)
    assert np.array_equal(back.image, IMAGE)
    assert (back.program.insn, back.program.regions) == (program.insn, program.regions)
    assert np.array_equal(back.program.dram, program.dram)
    assert back.program.min_gemm_distance == 8
    again = simulate(back.program, IMAGE[None]).logits
    assert np.array_equal(again, simulate(program, IMAGE[None]).logits)


def test_expected_is_what_a_run_over_dram_leaves(program, tmp_path):
    export_program(program, IMAGE, tmp_path)
    dram = np.frombuffer((tmp_path / "dram.bin").read_bytes(), np.uint8)
    after = Interpreter(SMALL, dram).run((tmp_path / "insn.bin").read_bytes())
    assert after.tobytes() == (tmp_path / "expected.bin").read_bytes()


def test_manifest(program, tmp_path):
    export_program(program, IMAGE, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["vta"]["LOG_BLOCK"] == 2
    assert manifest["input"] == {"region": "input", "shape": [8, 2, 2]}
    assert manifest["output"] == {"region": "output", "shape": [4, 1, 1], "bits": 16}
    assert all(region["offset"] % 4096 == 0 for region in manifest["regions"])
    assert manifest["layers"] == [{"name": "all", "begin": 0, "end": program.length}]


def test_an_export_is_replaced_and_another_folder_is_not(program, tmp_path):
    export_program(program, IMAGE, tmp_path)
    export_program(program, IMAGE + 1, tmp_path)
    assert np.array_equal(load_exported(tmp_path).image, IMAGE + 1)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"other: exists and holds no exported program"):
        export_program(program, IMAGE, other)
    with pytest.raises(UsageError, match=r"notes.txt: is a file"):
        export_program(program, IMAGE, other / "notes.txt")
    with pytest.raises(UsageError, match="no exported program"):
        load_exported(other)
    assert [p.name for p in other.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["insn.bin", "dram.bin", "expected.bin"])
def test_truncated_files_are_refused(program, tmp_path, name):
    export_program(program, IMAGE, tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:-5])
    with pytest.raises(ProgramError, match=f"{name}: truncated, {len(data) - 5} of {len(data)}"):
        load_exported(tmp_path)


def test_images_of_another_kind_are_refused(program):
    with pytest.raises(DataError, match=r"int8 \[3, 2, 2\]: the program takes int8 \[8, 2, 2\]"):
        simulate(program, np.zeros((1, 3, 2, 2), np.int8))
    with pytest.raises(DataError, match="float32"):
        simulate(program, np.zeros((1, 8, 2, 2), np.float32))
