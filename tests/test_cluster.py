"""Sweeps on a Dask cluster of real processes, and what ``--cluster`` and ``--jobs`` refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TINY, Gpw, Ran
from filelock import FileLock
from test_sweep import results, start

TRAINED = (
    *("sweep", *TINY, "--until", "finetune", "--name", "s"),
    *("scheme=gpw", "pretrain.train.epochs=1", "runtime.threads=1"),
)

HIDING = """\
import pathlib
seen = pathlib.Path.is_file
pathlib.Path.is_file = lambda path: not path.name.startswith("cluster-") and seen(path)
"""


class Dask:
    """A scheduler and its workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(file))
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.address: str = json.loads(file.read_text())["address"]

    def _start(self, role: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{role}", "--host", "127.0.0.1"]
        with (self.folder / f"{role}{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--no-dashboard", *arguments], stderr=log, stdout=log, cwd=self.folder
            )
        self.processes.append(process)
        return process

    def worker(self, *arguments: str) -> subprocess.Popen[bytes]:
        """One more worker process."""
        return self._start("worker", self.address, "--no-nanny", "--nthreads", "1", *arguments)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def dask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dask]:
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path / "config"))
    folder = tmp_path / "dask"
    folder.mkdir()
    running = Dask(folder)
    yield running
    running.stop()


def made(folder: Path) -> list[str]:
    """Everything in the store, by stage."""
    return sorted(path.parent.name for path in folder.glob(".gpw/store/*/*") if path.is_dir())


def test_a_worker_killed_in_the_middle_costs_one_epoch_and_changes_no_byte(
    tmp_path: Path, dask: Dask
) -> None:
    command = (*TRAINED, "sparsity=0.5,0.7,0.9", "finetune.train.epochs=3")
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    first = dask.worker()
    told = []
    with start(there, *command, "--cluster", dask.address) as process:
        assert process.stderr is not None
        for line in process.stderr:
            told.append(line)
            if "pretrain  epoch 1/1" in line:
                dask.worker()  # comes late, and goes on alone
            if "finetune  epoch 1/3" in line and first.poll() is None:
                first.send_signal(signal.SIGKILL)
                first.wait()
    assert process.returncode == 0, told
    epochs = [line.split("  loss")[0] for line in told if "finetune  epoch" in line]
    assert len(set(epochs)) == 9
    assert len(epochs) == 9  # the killed worker's epoch was told by nobody before
    assert sum("pretrain  epoch 1/1" in line for line in told) == 1
    assert made(there) == ["finetune"] * 3 + ["pretrain"] + ["prune"] * 3
    assert not list(there.glob(".gpw/cluster-*"))
    with start(here, *command, "--jobs", "1") as process:
        process.communicate()
    assert results(there / "results/s") == results(here / "results/s")


def test_a_worker_without_the_folder_ends_the_sweep_in_one_line(tmp_path: Path, dask: Dask) -> None:
    hiding = tmp_path / "hiding.py"
    hiding.write_text(HIDING)
    dask.worker("--preload", str(hiding))
    with start(tmp_path, *TRAINED, "sparsity=0.5,0.6", "--cluster", dask.address) as process:
        _, err = process.communicate()
    assert process.returncode == 2
    last = err.strip().splitlines()[-1]
    assert f"does not see {tmp_path / '.gpw'}" in last
    assert "runtime.root must name a folder" in last


def test_an_interrupt_stops_the_workers_too(tmp_path: Path, dask: Dask) -> None:
    dask.worker()
    command = (*TRAINED, "sparsity=0.5,0.6", "finetune.train.epochs=500")
    with start(tmp_path, *command, "--cluster", dask.address) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "finetune  epoch 1/500" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.strip().splitlines()[-1].startswith("gpw: interrupted")
    (partial,) = tmp_path.glob(".gpw/store/finetune/*.partial")
    with FileLock(partial.with_suffix(".lock")).acquire(timeout=60):
        assert (partial / "last.safetensors").is_file()


def test_a_lost_scheduler_is_one_line(tmp_path: Path, dask: Dask) -> None:
    with start(tmp_path, *TRAINED, "sparsity=0.5,0.6", "--cluster", dask.address) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "0 workers" in line:
                dask.scheduler.kill()
                break
        rest = process.stderr.read()
    assert process.returncode == 1
    assert len(rest.strip().splitlines()) == 1, rest
    assert "the scheduler does not answer any more" in rest


SBATCH = """\
#!/bin/sh
test "$1" != --test-only || exec grep -q distributed.cli.dask_worker
cp "$1" {folder}/script  # as sbatch does: the caller removes its own
setsid bash {folder}/script > {folder}/log 2>&1 &
echo $! > {folder}/job
echo "Submitted batch job $!"
"""
SCANCEL = """\
#!/bin/sh
echo "$1" >> {folder}/cancelled
kill -9 -"$1"
"""
JOBQUEUE = """\
jobqueue: {slurm: {cores: 1, processes: 1, memory: 4GB, local-directory: LOCAL}}
"""


def on_slurm(folder: Path, sbatch: str) -> subprocess.CompletedProcess[str]:
    """A sweep of one point as one job of a Slurm that consists of two scripts."""
    tools, config = folder / "bin", folder / "config"
    tools.mkdir()
    config.mkdir()
    for name, script in (("sbatch", sbatch), ("scancel", SCANCEL)):
        (tools / name).write_text(script.format(folder=folder))
        (tools / name).chmod(0o755)
    (config / "jobqueue.yaml").write_text(JOBQUEUE.replace("LOCAL", str(folder)))
    path = f"{tools}:{os.environ['PATH']}"
    command = (*TRAINED, "--until", "pretrain", "--json")
    return subprocess.run(
        [sys.executable, "-m", "gpw_cli", *command, "--cluster", "slurm", "--jobs", "1"],
        cwd=folder,
        env={**os.environ, "PATH": path, "DASK_CONFIG": str(config)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="a shell")
def test_a_job_of_slurm_is_submitted_and_cancelled(tmp_path: Path) -> None:
    done = on_slurm(tmp_path, SBATCH)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ran"] == 1
    assert made(tmp_path) == ["pretrain"]
    assert (tmp_path / "cancelled").read_text() == (tmp_path / "job").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell")
def test_what_slurm_refuses_is_one_line(tmp_path: Path) -> None:
    refused = on_slurm(tmp_path, "#!/bin/sh\necho 'sbatch: error: invalid partition' >&2; exit 1\n")
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert line.startswith("gpw: --cluster slurm: sbatch: error: invalid partition (jobqueue.slurm")


OneLine = Callable[[Ran], str]


def test_without_the_extra_one_line_says_how_to_install_it(
    gpw: Gpw, one_line: OneLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    refused = gpw("sweep", *TINY, "--cluster", "tcp://127.0.0.1:8786")
    assert "pip install 'gpw[cluster]'" in one_line(refused)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--jobs", "0"), "--jobs 0: expected a number of processes from 1 on, or auto"),
        (("--jobs", "-1"), "--jobs -1: expected"),
        (("--jobs", "1.5"), "--jobs 1.5: expected"),
        (("--jobs", "all"), "--jobs all: expected"),
        (("--cluster", "tcp://127.0.0.1:1", "--jobs", "2"), "takes no --jobs"),
        (("--cluster", "slurm", "--jobs", "auto"), "takes a number of jobs"),
        (("--cluster", "slurm"), "there is no sbatch here"),
        (("--cluster", "nowhere://127.0.0.1:1"), "--cluster nowhere://127.0.0.1:1: no Dask"),
    ],
)
def test_refused_in_one_line(
    gpw: Gpw, one_line: OneLine, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    assert words in one_line(gpw("sweep", *TINY, "scheme=gpw", *arguments))
    assert not (tmp_path / "results").exists()


def test_an_address_that_nobody_answers_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1")
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path / "config"))
    with start(tmp_path, "sweep", *TINY, "scheme=gpw") as process:
        _, err = process.communicate()
    assert process.returncode == 2
    (line,) = err.strip().splitlines()
    assert line.startswith("gpw: --cluster tcp://127.0.0.1:1: no Dask scheduler")
    assert not (tmp_path / "results").exists()
