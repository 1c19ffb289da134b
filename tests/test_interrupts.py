"""Signals at random moments (``scripts/interrupts.py`` tries more)."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from interrupting import tried

from gpw_cli.cli.entry import MESSAGE


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_signals_at_random_moments(tmp_path: Path) -> None:
    ends, same = tried(tmp_path, 4, 1)
    assert [end for end in ends if end.startswith("fault")] == []
    assert same


LAZY = """
import time
from gpw_cli.cli.entry import Signals
signals = Signals()
signals.install()
signals.tidy = True
try:
    import slow
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    signals.leave()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "times", "printed", "code"),
    [
        ("SIGINT", 1, "imported\ninterrupted\n", 130),
        ("SIGTERM", 1, "imported\ninterrupted\n", 143),
        ("SIGINT", 2, "", 130),  # at once
    ],
)
def test_an_import_ends_before_an_interrupt(
    tmp_path: Path, number: str, times: int, printed: str, code: int
) -> None:
    """PyTorch's initialisation aborts the process for an exception that comes into it."""
    sending = f"os.kill(os.getpid(), signal.{number})\ntime.sleep(0.3)\n" * times
    (tmp_path / "slow.py").write_text(
        f"import os, signal, time\n{sending}print('imported', flush=True)\n"
    )
    (tmp_path / "lazy.py").write_text(LAZY)
    ran = subprocess.run(
        [sys.executable, "lazy.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )  # fmt: skip
    assert (ran.stdout, ran.returncode) == (printed, code)
    assert ran.stderr == f"{MESSAGE}\n"
