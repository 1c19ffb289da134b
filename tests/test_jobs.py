"""``--jobs auto``: what is measured, what is chosen, and when nothing is."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TINY, Gpw

from gpw_cli.config.schema import ModelConfig
from gpw_cli.sweep import jobs
from gpw_cli.sweep.plan import Point, Request, plan_sweep

TRAINED = ("sweep", *TINY, "--until", "finetune", "scheme=gpw", "pretrain.train.epochs=1")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine of eight cores that is fastest with two processes; the splits that it was asked."""
    asked: list[int] = []

    def rate(training: jobs.Training, count: int) -> float:
        asked.append(count)
        return {1: 10.0, 2: 15.0, 3: 14.0, 4: 12.5, 8: 20.0}[count]

    monkeypatch.setattr(jobs, "usable_cores", lambda: tuple(range(8)))
    monkeypatch.setattr(jobs, "_steps_per_second", rate)
    return asked


def points(*overrides: str) -> list[Point]:
    planned = plan_sweep(Request(["data=digits", "scheme=gpw", *overrides])).points
    return [point for point in planned if point.axes.get("scheme") != "dense"]


def test_doubling_ends_where_it_does_not_help(measured: list[int]) -> None:
    said: list[str] = []
    many = points("sparsity=0.5:0.9", "seed=0,1")
    assert jobs.fastest_jobs(many, said.append) == 2
    assert measured == [1, 2, 4]
    assert len(said) == 1
    assert re.fullmatch(
        r"jobs auto: 1 x \d+ threads 10\.0 steps/s, 2 x \d+ threads 15\.0 steps/s, "
        r"4 x \d+ threads 12\.5 steps/s: --jobs 2",
        said[0],
    )


def test_no_more_processes_than_points(measured: list[int]) -> None:
    assert jobs.fastest_jobs(points("sparsity=0.5,0.6"), print) == 2
    assert measured == [1, 2]
    assert jobs.fastest_jobs(points("sparsity=0.5"), print) == 1
    assert measured == [1, 2]


def test_nothing_to_train_is_not_measured(measured: list[int]) -> None:
    recipes = ("pretrain.train.epochs=0", "finetune.train.epochs=0")
    assert jobs.fastest_jobs(points("sparsity=0.5,0.6,0.7", *recipes), print) == 3
    assert measured == []


def test_a_cached_sweep_is_not_measured(gpw: Gpw, measured: list[int]) -> None:
    command = (*TRAINED, "finetune.train.epochs=1", "sparsity=0.5,0.9", "--jobs", "auto")
    ran = gpw(*command)
    assert ran.code == 0, ran.err
    assert measured == [1, 2, 3]
    assert "jobs auto: 1 x " in ran.err
    again = gpw(*command, "--json")
    assert (again.json["ran"], again.json["stored"]) == (0, 3)
    assert measured == [1, 2, 3]
    assert "jobs auto" not in again.err


def test_processes_of_their_own_measure_real_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "usable_cores", lambda: (0, 1))
    monkeypatch.setattr(jobs, "SECONDS", 0.3)
    said: list[str] = []
    assert jobs.fastest_jobs(points("sparsity=0.5,0.9"), said.append) in (1, 2)
    rates = [float(rate) for rate in re.findall(r"threads ([\d.]+) steps/s", said[0])]
    assert len(rates) == 2
    assert all(rate > 0 for rate in rates)


def test_what_cannot_be_measured_leaves_the_sweep_to_say_why() -> None:
    (point,) = points("sparsity=0.5")
    unknown = replace(point.config, model=ModelConfig("nothing"))
    assert jobs._steps_per_second(jobs.Training(unknown, unknown.finetune.train), 1) == 0.0
