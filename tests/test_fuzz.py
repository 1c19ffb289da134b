"""Random input: one line and exit code 2, or done (``scripts/fuzz.py`` tries many more)."""

from __future__ import annotations

from pathlib import Path

import pytest
from file_fuzzing import FILES
from fuzzing import check_command, command_lines
from hypothesis import HealthCheck, given, settings


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fuzz"))
        yield


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(command_lines())
def test_overrides(arguments: list[str]) -> None:
    assert check_command(arguments) in (0, 2)


@pytest.mark.parametrize("kind", FILES)
def test_files(tmp_path: Path, kind: str) -> None:
    accepted = FILES[kind](tmp_path, 60, 0)
    assert 0 <= accepted < 60
