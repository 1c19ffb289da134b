"""The mutants of scripts/mutate.py: one change each, in code that runs."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = '''
"""Text with 1 + 1."""
from __future__ import annotations

LIMIT = 3


def f(x: int = 1, *, deep: bool = False) -> int:
    if x < LIMIT and not deep:
        raise ValueError(f"{x + 1}")
    return min(x, -LIMIT)
'''
CHANGES = {
    "LIMIT = 4",
    "def f(x: int=2, *, deep: bool=False) -> int:",
    "def f(x: int=1, *, deep: bool=True) -> int:",
    "    if x <= LIMIT and (not deep):",
    "    if x < LIMIT or not deep:",
    "    if x < LIMIT and (not not deep):",
    "    if not (x < LIMIT and (not deep)):",
    "    return max(x, -LIMIT)",
    "    return min(x, +LIMIT)",
}


@pytest.fixture
def mutate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutate", ROOT / "scripts" / "mutate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mutate", module)
    spec.loader.exec_module(module)
    (tmp_path / "toy.py").write_text(SOURCE)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def test_every_mutant_changes_one_line_of_code(mutate: ModuleType) -> None:
    mutants = mutate.mutants_of("toy.py")
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    before = ast.unparse(ast.parse(SOURCE)).splitlines()
    changed = []
    for mutant in mutants:
        after = mutate.mutated(mutant).splitlines()
        lines = [b for a, b in zip(before, after, strict=True) if a != b]
        assert len(lines) == 1
        changed += lines
        assert [f"+{line}" for line in lines] == [
            line for line in mutate.difference(mutant).splitlines() if line.startswith("+")
        ]
    assert len(changed) == len(CHANGES)
    assert set(changed) == CHANGES


def test_what_was_tried_is_not_tried_again_unless_the_file_changed(
    mutate: ModuleType, tmp_path: Path
) -> None:
    out = tmp_path / "mutants.jsonl"
    assert mutate.tried(out) == {}
    row = {"name": "a", "file": "toy.py", "digest": mutate.digest("toy.py"), "result": "killed"}
    out.write_text(f"{mutate.json.dumps(row)}\n")
    assert list(mutate.tried(out)) == ["a"]
    (tmp_path / "toy.py").write_text(SOURCE + "# more\n")
    assert mutate.tried(out) == {}


def test_what_was_tried_of_a_file_that_is_gone_is_left_out(
    mutate: ModuleType, tmp_path: Path
) -> None:
    out = tmp_path / "mutants.jsonl"
    out.write_text('{"name": "a", "file": "gone.py", "digest": "0", "result": "killed"}\n')
    assert mutate.tried(out) == {}


def test_a_kill_counts_where_the_test_passes_without_the_mutant(
    mutate: ModuleType, tmp_path: Path
) -> None:
    copy, log = tmp_path, tmp_path / "log"
    (copy / "tests").mkdir()
    (copy / "tests" / "test_toy.py").write_text(
        "from toy import f\ndef test_f(): assert f(2, deep=True) == -3\ndef test_g(): assert 0\n"
    )
    (copy / "toy.py").write_text(SOURCE.replace("-LIMIT", "+LIMIT"))
    assert mutate.run_tests(copy, ["tests/test_toy.py"], log) == "killed"
    log.write_text(
        "E  2\nFAILED tests/test_toy.py::test_f - assert 2 == -3\nERROR tests/test_a.py\n"
    )
    assert mutate.failing(log) == ["tests/test_toy.py::test_f", "tests/test_a.py"]
    (copy / "toy.py").write_text(SOURCE)
    mutate.require_passing(["tests/test_toy.py::test_f"], copy, log)
    with pytest.raises(SystemExit, match="test_g fails without a mutant"):
        mutate.require_passing(["tests/test_toy.py::test_g"], copy, log)


def test_every_package_names_tests_that_exist(mutate: ModuleType) -> None:
    for names in mutate.TESTS.values():
        assert all((ROOT / "tests" / f"test_{name}.py").exists() for name in names)


def test_a_sample_by_lines(mutate: ModuleType, tmp_path: Path) -> None:
    for name, times in (("large", 3), ("small", 1)):
        folder = tmp_path / "gpw_cli" / name
        folder.mkdir(parents=True)
        for number in range(times):
            (folder / f"m{number}.py").write_text(SOURCE)
    mutate.TESTS = {"gpw_cli/large": ("a",), "gpw_cli/small": ("b",)}
    strata = ["gpw_cli/large", "gpw_cli/small"]
    every = [mutant for file in mutate.sources(strata) for mutant in mutate.mutants_of(file)]
    found = mutate.drawn(every, 8, 5, strata)
    assert [mutant.file.split("/")[1] for mutant in found] == ["large"] * 6 + ["small"] * 2
    assert len({mutant.name for mutant in found}) == 8
    assert found == mutate.drawn(every, 8, 5, strata) != mutate.drawn(every, 8, 6, strata)
    assert len(mutate.drawn(every, 8, 5, [])) == 8
