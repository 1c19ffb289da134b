"""The real command line in this process, in a folder of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from gpw_cli.cli.main import main

# The same examples every time: a red test is red for everyone, and again.
settings.register_profile("gpw", derandomize=True, deadline=None, database=None)
settings.load_profile("gpw")

# A network of seconds: digits, two epochs of training, one of fine-tuning.
TINY = (
    "data=digits",
    "pretrain.train.epochs=2",
    "finetune.train.epochs=2",
    "pretrain.train.eval_every=1",
)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Gpw = Callable[..., Ran]


@pytest.fixture
def gpw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Gpw]:
    """``gpw("sweep", "sparsity=0.5")`` as typed in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["gpw", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def one_line() -> Callable[[Ran], str]:
    """The single line on stderr of a refused command."""

    def check(ran: Ran) -> str:
        assert ran.code == 2
        assert "Traceback" not in ran.err
        lines = ran.err.strip().splitlines()
        assert len(lines) == 1, ran.err
        return lines[0]

    return check


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference checkpoints beside a development checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir() or os.environ.get("GPW_NO_SHARED"):
        pytest.skip("no shared folder here")
    return folder
