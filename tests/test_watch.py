"""The live table and the log of a sweep, fed with events."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import TINY
from rich.console import Console

from gpw_cli.cli.console import Lines, Timed, duration
from gpw_cli.cli.live_table import LiveTable, fitted
from gpw_cli.cli.watch import Log
from gpw_cli.config.compose import compose
from gpw_cli.stages.purpose import purpose
from gpw_cli.sweep.events import Event, Kind, Reporter
from gpw_cli.training.loop import EpochRecord


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def record(epoch: int, test: float | None = None) -> EpochRecord:
    return EpochRecord(epoch, 0.4, 86.0, test, 0.1, 2.0)


def drawn(table: LiveTable, width: int = 100, height: int = 12) -> list[str]:
    console = Console(record=True, width=width, height=height, file=io.StringIO())
    console.print(table)
    return console.export_text().rstrip("\n").split("\n")


def table_of(count: int) -> tuple[LiveTable, Clock, Reporter, list[str]]:
    clock, said = Clock(), list[str]()
    table = LiveTable([f"sparsity=0.{n:02}" for n in range(count)], said.append, clock)
    return table, clock, Reporter(table), said


def test_a_row_follows_its_point_from_waiting_to_done() -> None:
    table, clock, reporter, _ = table_of(3)
    table(Event("sparsity=0.00", Kind.stored, accuracy=91.5))
    assert drawn(table)[0] == "3 runs: 1 done, 2 waiting (1 from the store)"
    reporter.take("sparsity=0.02")
    reporter.stage("finetune", None)
    clock.now += 10
    reporter.epoch("finetune", record(1, 61.25), 5)
    clock.now += 4
    totals, header, running, waiting, done = drawn(table)
    assert totals == "3 runs: 1 done, 1 waiting, 1 running (1 from the store)"
    assert header.split() == ["run", "state", "stage", "accuracy", "left"]
    # four epochs of ten seconds, less the four seconds that have passed since
    assert running.split() == [
        "sparsity=0.02",
        "running",
        "finetune",
        "1/5",
        "61.25",
        "%",
        "36",
        "s",
    ]
    assert waiting.split() == ["sparsity=0.01", "waiting"]
    assert done.split() == ["sparsity=0.00", "done", "91.50", "%"]
    clock.now += 6
    reporter.stage("simulate", None)
    reporter.progress("simulate: images", 1024, 10000)
    assert "simulate 1,024/10,000" in drawn(table)[2]
    reporter.done(60.5)
    reporter.take("sparsity=0.01")
    reporter.stage("prune", None)
    clock.now += 5
    # a point took 20 seconds, and this one has run for 5
    assert drawn(table)[0].endswith("2 done, 1 running (1 from the store), about 15 s left")


def test_training_that_goes_on_from_a_checkpoint_is_paced_by_its_own_epochs() -> None:
    table, clock, reporter, _ = table_of(1)
    reporter.take("sparsity=0.00")
    reporter.stage("finetune", None)
    clock.now += 3
    reporter.epoch("finetune", record(9), 10)
    assert drawn(table)[2].split()[-2:] == ["3", "s"]


@pytest.mark.parametrize(("count", "height"), [(50, 12), (200, 24), (3, 4)])
def test_many_points_fit_the_terminal(count: int, height: int) -> None:
    table, _, reporter, said = table_of(count)
    for number in range(count // 2):
        table(Event(f"sparsity=0.{number:02}", Kind.done, accuracy=90.0))
    reporter.take(f"sparsity=0.{count - 1:02}")
    reporter.stage("pretrain", None)
    reporter.take(f"sparsity=0.{count - 2:02}")
    reporter.failed("the loss is not finite")
    lines = drawn(table, height=height)
    assert len(lines) <= height
    assert f"{count} runs: {count // 2} done, " in lines[0]
    assert lines[2].split()[:3] == [f"sparsity=0.{count - 1:02}", "running", "pretrain"]
    if height > 4:
        assert lines[3].split() == [f"sparsity=0.{count - 2:02}", "failed"]
        assert lines[4].split()[1] == "waiting"
    assert lines[-1].startswith("and ")
    assert said == [f"run sparsity=0.{count - 2:02} failed: the loss is not finite"]


def test_long_names_are_cut_to_the_width() -> None:
    table = LiveTable(["x" * 300, "y"], print)
    table(Event("y", Kind.done, accuracy=12.5))
    lines = drawn(table, width=80)
    assert all(len(line) <= 80 for line in lines)
    assert "…" in lines[2]
    assert "12.50 %" in lines[3]


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        (47, "sparsity=0.5,finetune.train.lr=0.05,scheme=gpw"),
        (35, "sparsity=0.5,lr=0.05,scheme=gpw"),
        (21, "sparsity=0…scheme=gpw"),
        (20, "sparsity=…scheme=gpw"),
    ],
)
def test_the_end_of_a_name_tells_points_apart(room: int, shown: str) -> None:
    assert fitted("sparsity=0.5,finetune.train.lr=0.05,scheme=gpw", room) == shown


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
def test_a_terminal_gets_the_table_and_stdout_the_result(tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    recipe = ("pretrain.train.epochs=1", "scheme=gpw", "--until", "pretrain")
    with subprocess.Popen(
        [sys.executable, "-m", "gpw_cli", "sweep", *TINY, *recipe, "--json", "--name", "s"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "90", "LINES": "20"},
    ) as process:
        os.close(theirs)
        drawn = b""
        with suppress(OSError):  # Linux's answer once the other end is closed
            while part := os.read(ours, 65536):
                drawn += part
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["ran"] == 1
    os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode()).splitlines()
    assert process.returncode == 0
    assert "1 run -> results/s" in lines
    assert "1 run: 1 running" in {line.rstrip() for line in lines}
    assert any(re.match(r"run +running +pretrain", line) for line in lines)


def test_the_log_has_one_line_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    log = Log(2, several=True, timed=Timed(clock))
    log(Event("a", Kind.stored, accuracy=1.0))
    reporter = Reporter(log)
    reporter.take("b")
    for stage in ("pretrain", "pretrain", "prune"):  # found, not run; once a task
        reporter.stage(stage, {"test_accuracy": 80.0})
    clock.now += 75
    reporter.stage("finetune", None, "resnet20 on cifar10: 2 epochs, recipe restart")
    reporter.epoch("finetune", record(1, 61.25), 2)
    clock.now += 42
    reporter.stage("finetune", {"test_accuracy": 61.25})
    reporter.stage("quantize", {"test_accuracy": 61.0})
    reporter.stage("fuse", None, "resnet20 on cifar10: fusion add")
    reporter.stage("fuse", {})
    for _ in range(2):  # by the process that made it, and by one that found it made
        log(Event("b", Kind.done, accuracy=61.25))
    assert capsys.readouterr().err.splitlines() == [
        "run b  (pretrain, prune from the store)",
        "b  finetune  resnet20 on cifar10: 2 epochs, recipe restart  after 1 min",
        "b  finetune  epoch 1/2  loss 0.400  train 86.0 %  test 61.25 %  2.0 s",
        "b  finetune  done in 42 s, 61.25 %",
        "b  quantize from the store",
        "b  fuse  resnet20 on cifar10: fusion add  after 2 min",
        "b  fuse  done in 0 s",
        "run b done  (2 of 2)",
    ]


def test_progress_is_told_now_and_then_and_at_the_end() -> None:
    told: list[Event] = []
    reporter = Reporter(told.append)
    for done in range(1, 1001):
        reporter.progress("bytes", done, 1000)
    assert (told[0].step, told[-1].step) == (1, 1000)
    assert len(told) < 20


def test_what_begins_is_a_line_and_is_never_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for what in ("cifar10: fetches 170 MB", "cifar10: decoding"):
        lines.progress("bytes", 10, 100)
        lines.progress(what, 0, None)
    said = capsys.readouterr().err.splitlines()
    assert said == ["bytes  10 of 100", "cifar10: fetches 170 MB", "cifar10: decoding"]
    told: list[Event] = []
    Reporter(told.append).progress("cifar10: decoding", 0, None)
    assert (told[0].kind, told[0].text) == (Kind.message, "cifar10: decoding")


@pytest.mark.parametrize(
    ("what", "left"),
    [
        ("bytes", "about 30 s left"),  # 300 of 400 more, 100 in 10 s
        ("finetune  epoch 8/10: images", "about 2 min left"),  # and two epochs of 500 more
        ("finetune  epoch 10/10: images", "about 30 s left"),
    ],
)
def test_a_count_says_how_long_it_will_take(
    capsys: pytest.CaptureFixture[str], what: str, left: str
) -> None:
    clock = Clock()
    lines = Lines(clock)
    for done in (100, 200, 500):
        lines.progress(what, done, 500)
        clock.now += 10
    counts = [f"{what}  {done} of 500" for done in (100, 200, 500)]
    counts[1] += f"  {left}"
    assert capsys.readouterr().err.splitlines() == counts


@pytest.mark.parametrize(
    ("overrides", "stage", "said"),
    [
        (["data=digits"], "pretrain", "digits_cnn on digits: 20 epochs, recipe digits"),
        (["sparsity=0.7"], "prune", "resnet20 on cifar10: gpw, 70 % in scope layer, criterion l1"),
        (["scope=cycles", "pruning.budget=72000"], "prune", "gpw, at most 72,000 cycles of vta, "),
        (["finetune.train.epochs=1"], "finetune", "resnet20 on cifar10: 1 epoch, recipe restart"),
        (["finetune.quantized=true"], "finetune", "10 epochs, recipe restart, as integers"),
        (["bits=6"], "quantize", "6-bit weights, 6-bit activations, quantizer best"),
        ([], "fuse", "fusion add"),
        (["simulate.images=64"], "simulate", "cycles of vta, 64 test images"),
    ],
)
def test_a_stage_says_what_it_will_do(overrides: list[str], stage: str, said: str) -> None:
    assert said in purpose(stage, compose(overrides))
    assert purpose("pretrain", compose([])) == ""  # shipped weights


def test_durations() -> None:
    assert [duration(s) for s in (4.4, 59, 61, 3599, 11100)] == [
        "4 s",
        "59 s",
        "1 min",
        "1 h 00 min",
        "3 h 05 min",
    ]


def test_the_accuracy_of_the_pruned_weights_goes_when_fine_tuning_starts() -> None:
    table, _, reporter, _ = table_of(1)
    reporter.take("sparsity=0.00")
    reporter.stage("prune", {"test_accuracy": 9.75})
    assert any("9.75 %" in line for line in drawn(table))
    reporter.stage("finetune", None)
    assert not any("9.75" in line for line in drawn(table))
