"""Soak test: a sweep that is killed repeatedly while its store is being cleaned.

    python scripts/soak.py --minutes 30

A sweep of 200 runs of digits in four processes; when it is done, the next one with twenty other
seeds, in the same store, until the time is up. Every second ``gpw cache gc --min-age 0`` cleans the
store, which always contains an artifact that no sweep refers to. After every five seconds of work
one of the processes is killed with SIGKILL; if it is the main process, the command starts again.
Complete artifacts must not change, and only interrupted work may be done twice. Exits with 1
otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gpw_cli.store.gc import collect, entries
from gpw_cli.store.manifest import MANIFEST
from gpw_cli.store.records import BadRecord, read_point, referenced
from gpw_cli.store.seal import opened
from gpw_cli.store.store import Store

GC, KILL = 1.0, 5.0  # seconds
COMMAND = (
    *("sweep", "data=digits", "scheme=block,gpw", "sparsity=0.5,0.6,0.7,0.8,0.9"),
    *("pretrain.train.epochs=2", "finetune.train.epochs=2", "runtime.threads=1"),
    *("--until", "finetune", "--jobs", "4"),
)
SEEDS = 20  # a round; 2 schemes x 5 sparsities x 20 seeds = 200 runs


@dataclass
class Soak:
    """One run; ``seen``: the manifests of artifacts that were complete."""

    folder: Path
    chosen: random.Random
    seen: dict[Path, bytes] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    round: int = 0

    @property
    def command(self) -> list[str]:
        """The sweep of this round."""
        first = SEEDS * self.round
        seeds = f"seed={first}:{first + SEEDS - 1}"
        return [*COMMAND, seeds, "--name", f"soak{self.round}"]

    @property
    def root(self) -> Path:
        """The store."""
        return self.folder / ".gpw" / "store"

    def start(self) -> None:
        """Start the sweep, again or for the first time."""
        self.counts["starts"] += 1
        log = (self.folder / "log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpw_cli", *self.command],
            cwd=self.folder,
            stdout=log,
            stderr=log,
        )

    def clean(self) -> None:
        """Clean the store, with something to clean, and compare the complete artifacts."""
        if not (self.folder / "results" / f"soak{self.round}" / "sweep.json").is_file():
            return
        decoy = f"{self.chosen.getrandbits(64):016x}"
        Store(self.root).make("prune", decoy, {"parent": None}, _decoy)
        gone = collect(self.root, referenced([self.folder / "results"]), dry_run=False)
        self.counts["cleanings"] += 1
        self.counts["decoys"] += sum(entry.key == decoy for entry in gone.removed)
        lost = [e for e in gone.removed if e.state != "damaged" and e.summary != "1.00 %"]
        self.faults += [f"removed {entry.stage}/{entry.key} ({entry.state})" for entry in lost]
        self.compare()

    def compare(self) -> None:
        """Record a fault for artifacts that are lost or have changed."""
        for path, before in self.seen.items():
            now = path.read_bytes() if path.is_file() else b""
            if now != before:
                self.faults.append(f"{path.parent.name} was {'made again' if now else 'lost'}")
        for entry in entries(self.root):
            if entry.state == "complete" and entry.path / MANIFEST not in self.seen:
                self.seen[entry.path / MANIFEST] = (entry.path / MANIFEST).read_bytes()
            elif entry.state == "damaged":
                self.faults.append(f"{entry.path.name} was set aside")

    @property
    def works(self) -> bool:
        """Whether the sweep has started and uses its artifacts."""
        number = self.process.pid if self.process is not None else 0
        return any(self.root.glob(f".uses/{number}-*.keys"))

    def kill(self) -> None:
        """Kill one of the processes of the sweep."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = [self.process.pid, *map(int, children.read_text().split())]
        victim = self.chosen.choice(found)
        self.counts["first killed" if victim == self.process.pid else "others killed"] += 1
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)

    def points(self) -> Counter[str]:
        """The states of the recorded points."""
        states: Counter[str] = Counter()
        for file in self.folder.glob("results/*/points/*.json"):
            try:
                states[read_point(file)["status"]] += 1
            except BadRecord as error:
                self.faults.append(f"{file.name}: {error}")
        return states


def _decoy(work: Path) -> dict[str, float]:
    (work / "payload.bin").write_bytes(b"x" * 1000)
    return {"test_accuracy": 1.0}


def soak(folder: Path, minutes: float, seed: int) -> Soak:
    """Run until the time is up or a fault is found."""
    run = Soak(folder, random.Random(seed))
    run.start()
    began = told = time.monotonic()
    next_kill = began + KILL
    while time.monotonic() < began + 60 * minutes and not run.faults:
        time.sleep(GC)
        run.clean()
        code = run.process.poll() if run.process else None
        if code == 0:
            run.counts["sweeps finished"] += 1
            run.round += 1
            run.start()
        elif code is not None:
            if code != -signal.SIGKILL:
                run.faults.append(f"the sweep ended with {code}")
            run.start()
        elif not run.works:
            next_kill = time.monotonic() + KILL
        elif time.monotonic() >= next_kill:
            run.kill()
            next_kill = time.monotonic() + KILL
        if time.monotonic() > told + 60:
            told = time.monotonic()
            print(f"{(told - began) / 60:.0f} min: {len(run.seen)} artifacts, {dict(run.counts)}")
    return run


def end(run: Soak) -> None:
    """Stop the sweep and verify all checksums."""
    if run.process is not None and run.process.poll() is None:
        worked = run.works
        run.process.terminate()
        if run.process.wait(60) != 143 and worked:
            run.faults.append(f"SIGTERM ended the sweep with {run.process.returncode}")
    run.compare()
    store = Store(run.root)
    for path in run.seen:
        if path.is_file():
            parent = opened(path.read_bytes()).content["parent"]
            reading = store.look(path.parent.parent.name, path.parent.name, parent)
            if not reading.complete:
                run.faults.append(f"{path.parent.name}: {reading.damage}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    done = soak(place, given.minutes, given.seed)
    end(done)
    print(f"{len(done.seen)} artifacts, {dict(done.counts)}, runs {dict(done.points())}")
    print("\n".join(done.faults) or "nothing lost, nothing made twice but what was killed")
    if not done.faults:
        shutil.rmtree(place)
    sys.exit(bool(done.faults))
