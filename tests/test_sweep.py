from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import TINY, Gpw

TRAINED = ("sweep", *TINY, "--until", "finetune")
SWEEP = ("sweep", *TINY, "sparsity=0.5,0.9", "simulate.images=20")


def results(folder: Path) -> dict[str, bytes]:
    """Every stored result by its path in the sweep's folder."""
    files = [folder / "results.csv", folder / "sweep.json", *sorted(folder.glob("points/*.json"))]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_sweep_is_cached_and_reported(gpw: Gpw, tmp_path: Path) -> None:
    first = gpw(*SWEEP, "--name", "s", "--json")
    assert first.code == 0, first.err
    assert (first.json["ran"], first.json["stored"], first.json["failed"]) == (5, 0, {})
    folder = tmp_path / "results" / "s"
    before = results(folder)
    points = json.loads(before["sweep.json"])["points"]
    assert [p["axes"] for p in points] == [{"scheme": "dense"}] + [
        {"scheme": scheme, "sparsity": sparsity}
        for scheme in ("block", "gpw")
        for sparsity in ("0.5", "0.9")
    ]
    assert len(list((tmp_path / ".gpw/store/pretrain").glob("*/manifest.json"))) == 1
    assert (folder / "report.html").is_file()
    again = gpw(*SWEEP, "--name", "s", "--json")
    assert (again.json["ran"], again.json["stored"]) == (0, 5)
    assert "epoch" not in again.err
    assert again.json["report"] == []
    assert results(folder) == before
    listed = gpw(*SWEEP, "--name", "s", "--dry-run", "--json").json["points"]
    assert {state for stages in listed.values() for state in stages.values()} == {"stored"}
    # the report is redrawn from the results alone
    assert gpw("report", "s").code == 0
    assert results(folder) == before
    assert gpw("cache", "gc", "--json").json["removed"] == []


def test_a_damaged_artifact_is_made_again_with_the_same_results(gpw: Gpw, tmp_path: Path) -> None:
    command = (*TRAINED, "sparsity=0.5", "scheme=gpw", "--name", "s")
    assert gpw(*command).code == 0
    before = results(tmp_path / "results" / "s")
    weights = next(tmp_path.glob(".gpw/store/finetune/*/model.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    again = gpw(*command)
    assert again.code == 0
    assert "does not match its checksum; set aside" in again.err
    assert results(tmp_path / "results" / "s") == before


def test_a_failed_point_stops_no_other(gpw: Gpw, tmp_path: Path) -> None:
    ran = gpw(*TRAINED, "scheme=gpw", "sparsity=0.5", "finetune.train.lr=1e20,0.05", "--name", "f")
    assert ran.code == 1
    assert "failed: finetune.train.lr=1e20: finetune: the loss is not finite" in ran.err
    records = [json.loads(f.read_text()) for f in (tmp_path / "results/f/points").glob("*.json")]
    assert sorted(record["status"] for record in records) == [
        "done",
        "done",
        "failed",
    ]  # dense is there too


def test_a_sweep_whose_only_point_fails_is_no_bad_input(gpw: Gpw, tmp_path: Path) -> None:
    ran = gpw(*TRAINED, "scheme=gpw", "finetune.train.lr=1e20", "--name", "f", "--json")
    assert ran.code == 1
    assert "the loss is not finite" in ran.json["failed"]["run"]
    assert (tmp_path / "results/f/report.html").is_file()


def test_points_that_all_refuse_the_same_input_are_one_error(gpw: Gpw, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "other.pt")
    read = ("sweep", "data=digits", "--until", "finetune", "pretrain.source=other.pt")
    ran = gpw(*read, "scheme=gpw", "sparsity=0.5,0.9")
    assert ran.code == 2
    assert "every point failed: other.pt: weights of another" in ran.err.splitlines()[-1]


def test_another_grid_may_not_take_the_folder(gpw: Gpw) -> None:
    name = ("--name", "s", "--json")
    assert gpw(*TRAINED, "scheme=gpw", "sparsity=0.5,0.6", *name).code == 0
    refused = gpw(*TRAINED, "scheme=gpw", "sparsity=0.7,0.8", *name)
    assert refused.code == 2
    assert "choose another --name" in refused.err
    more = gpw(*TRAINED, "scheme=gpw", "sparsity=0.5:0.7", *name)
    assert (more.json["ran"], more.json["stored"]) == (1, 3)


def test_other_settings_may_not_take_the_folder(gpw: Gpw, tmp_path: Path) -> None:
    grid = ("scheme=gpw", "sparsity=0.5,0.6", "--name", "s")
    assert gpw(*TRAINED, *grid).code == 0
    before = results(tmp_path / "results" / "s")
    refused = gpw(*TRAINED, *grid, "finetune.train.lr=0.01")
    assert refused.code == 2
    assert "holds 2 runs, like sparsity=0.5, with other settings" in refused.err
    assert "choose another --name" in refused.err
    assert results(tmp_path / "results" / "s") == before
    unused = gpw(*TRAINED, *grid, "simulate.images=5", "--json")  # changes no key up to finetune
    assert (unused.code, unused.json["stored"]) == (0, 3)


PAIR = (*TRAINED, "scheme=block,gpw", "sparsity=0.5,0.9")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gpw_cli", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a test run started in the background inherits SIGINT ignored, and so would this process
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )


LONGER = (*TRAINED, "finetune.train.epochs=6", "sparsity=0.5,0.7", "--name", "k")


def test_killed_in_the_middle_and_started_again_gives_the_same_bytes(
    gpw: Gpw, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    with start(broken, *LONGER) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("finetune  epoch 2/6"):
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert list(broken.glob(".gpw/store/finetune/*.partial/last.safetensors"))
    again = subprocess.run(
        [sys.executable, "-m", "gpw_cli", *LONGER],
        cwd=broken,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "finetune  epoch 1/6" not in again.stderr.split("run ")[1]  # went on from epoch 2
    with start(whole, *LONGER) as process:
        process.communicate()
    assert process.returncode == 0
    assert results(broken / "results/k") == results(whole / "results/k")


def test_two_identical_sweeps_at_once_share_the_work(tmp_path: Path) -> None:
    processes = [start(tmp_path, *PAIR, "--name", "t", "--json") for _ in range(2)]
    ended = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    epochs = sum(err.count("finetune  epoch 1/2") for _, err in ended)
    assert epochs == 4  # each point trained once, by one of the two
    assert len(list((tmp_path / "results/t/points").glob("*.json"))) == 5  # with the dense network


def test_two_jobs_give_the_results_of_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, jobs in ((one, "1"), (two, "2")):
        folder.mkdir()
        command = (*PAIR, "runtime.threads=1", "--name", "j", "--jobs", jobs)
        with start(folder, *command) as process:
            _, err = process.communicate()
        assert process.returncode == 0, err
        assert err.count("finetune  epoch 1/2") == 4  # whichever process it was
    assert results(one / "results/j") == results(two / "results/j")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_interrupt_is_130(tmp_path: Path) -> None:
    with start(tmp_path, *LONGER) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 1/" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    assert process.returncode == 130
    assert "interrupted" in rest
    assert "Traceback" not in rest


def test_a_sweep_evaluates_all_test_images(gpw: Gpw) -> None:
    ran = gpw("sweep", "data=digits", "sparsity=0.5", "evaluate.images=100")
    assert ran.code == 2
    assert "evaluate.images=100" in ran.err
    assert "simulate.images=N" in ran.err
