"""Fuzzing with random overrides and random changes of every kind of file that gpw reads.

    python scripts/fuzz.py overrides --examples 2000
    python scripts/fuzz.py files --examples 500 --seed 1
    python scripts/fuzz.py flips --examples 2000

Exits with 1 at the first command that prints a traceback or more than one line, exits with a code
other than 0 and 2, or does not end within 20 s. It then prints the smallest such command, or the
number of the file change that reproduces it. ``flips`` changes one bit of a file of an artifact
at a time, of the manifest as often as of all others; each has to be noticed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests")]

from file_fuzzing import FILES, flips  # noqa: E402
from fuzzing import check_command, command_lines  # noqa: E402
from hypothesis import HealthCheck, given, seed, settings  # noqa: E402


def fuzz_overrides(examples: int, start: int) -> None:
    codes: Counter[int] = Counter()

    @seed(start)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(command_lines())
    def attempt(arguments: list[str]) -> None:
        codes[check_command(arguments)] += 1
        if sum(codes.values()) % 200 == 0:
            print(f"{codes[0]} done, {codes[2]} refused", flush=True)

    began = time.monotonic()
    attempt()
    took = time.monotonic() - began
    print(f"{sum(codes.values())} commands in {took:.0f} s: {codes[0]} done, {codes[2]} refused")


def fuzz_files(examples: int, start: int) -> None:
    for kind, fuzz in FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            accepted = fuzz(Path(folder), examples, start)
        print(f"{kind}: {examples} changed files, {examples - accepted} refused", flush=True)


def fuzz_flips(examples: int, start: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        counts = flips(Path(folder), examples, start)
    print(f"{sum(counts.values())} of {examples} flips noticed: {dict(counts)}")


RUN = {"overrides": fuzz_overrides, "files": fuzz_files, "flips": fuzz_flips}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=tuple(RUN))
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given_ = parser.parse_args()
    with tempfile.TemporaryDirectory() as elsewhere:
        os.chdir(elsewhere)
        RUN[given_.what](given_.examples, given_.seed)
