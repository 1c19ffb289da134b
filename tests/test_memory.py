"""Memory that tensors leave is kept for the next ones."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

ALLOCATIONS = """
import resource, sys
import torch
from gpw_cli.stages.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        [torch.ones(5 << 20) for _ in range(6)]  # 20 MiB each, freed together
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = sys.argv[1] == "keep" and keep_freed_memory()
faults()
print(kept, faults())
"""


def faults(how: str) -> tuple[str, int]:
    """What keep_freed_memory returned, and page faults of 600 MiB of allocations.

    By itself, glibc's threshold depends on what was freed before; here it starts at 128 KiB.
    """
    command = [sys.executable, "-c", ALLOCATIONS, how]
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(128 << 10)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    kept, count = done.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_kept() -> None:
    pages = 5 * (120 << 20) // 4096
    assert faults("keep") == ("True", pytest.approx(0, abs=pages // 20))
    kept, count = faults("default")
    assert kept == "False"
    assert count > pages // 2
