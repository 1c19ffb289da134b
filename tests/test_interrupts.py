"""Signals at random moments (``scripts/interrupts.py`` tries more)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from interrupting import tried


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_signals_at_random_moments(tmp_path: Path) -> None:
    ends, same = tried(tmp_path, 4, 1)
    assert [end for end in ends if end.startswith("fault")] == []
    assert same
