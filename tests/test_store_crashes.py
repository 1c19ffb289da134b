"""A command killed at any change of the file system leaves nothing that the next cannot heal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from crash_points import OPERATIONS

HELPER = Path(__file__).with_name("crash_points.py")
LEAST = {"make": 15, "gc": 25, "export": 6}  # changes that each makes at the very least


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_crash_point_heals(operation: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HELPER), operation, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["faults"] == [], done.stderr
    assert result["points"] >= LEAST.get(operation, 3)
