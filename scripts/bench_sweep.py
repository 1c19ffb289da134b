"""Time of a sweep with one process and with several, and of a cached sweep.

    python scripts/bench_sweep.py --repeat 3

The sweep runs all stages for the embedded digits with recipe ``digits``: dense, and two schemes at
three sparsities. Each run is a new process of the command line with an empty store. The runs
alternate, so that other load on the machine affects both; ratios are of consecutive runs. Then a
sweep of 50 points runs once, and the same command is timed again with all points in the store.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SWEEP = ("data=digits", "train=digits", "scheme=dense,block,gpw", "sparsity=0.5,0.7,0.9")
QUICK = ("pretrain.train.epochs=1", "finetune.train.epochs=0", "simulate.images=20")
FIFTY = ("data=digits", *QUICK, "scheme=block,gpw", "sparsity=0.50:0.74")


def sweep(folder: Path, *arguments: str) -> float:
    """Seconds of ``gpw sweep`` in ``folder``, start-up and report included."""
    command = [sys.executable, "-m", "gpw_cli", "sweep", "--name", "bench", *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr)
    return seconds


def fresh(*arguments: str) -> float:
    """``sweep`` with an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        return sweep(Path(folder), *arguments)


def compare(jobs: int, repeat: int, epochs: int) -> None:
    """Compare one process with all threads and ``jobs`` processes that divide them."""
    recipe = [f"{stage}.train.epochs={epochs}" for stage in ("pretrain", "finetune")]
    ratios = []
    for number in range(repeat):
        one = fresh(*SWEEP, *recipe, "--jobs", "1")
        several = fresh(*SWEEP, *recipe, "--jobs", str(jobs))
        ratios.append(one / several)
        print(
            f"run {number + 1}: --jobs 1 {one:.1f} s, --jobs {jobs} {several:.1f} s, "
            f"ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"median ratio of --jobs 1 to --jobs {jobs}: {statistics.median(ratios):.2f}")


def cached(repeat: int) -> None:
    """50 points that are all in the store."""
    with tempfile.TemporaryDirectory() as folder:
        made = sweep(Path(folder), *FIFTY)
        found = [sweep(Path(folder), *FIFTY) for _ in range(repeat)]
    print(f"50 points: made in {made:.1f} s, found again in {statistics.median(found):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10, help="of training and of fine-tuning")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores; digits, 7 points, {args.epochs} epochs")
    compare(args.jobs, args.repeat, args.epochs)
    cached(args.repeat)


if __name__ == "__main__":
    main()
