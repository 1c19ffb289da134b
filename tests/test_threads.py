"""Batches shared among threads: order, counts, networks that are not safe to share."""

from __future__ import annotations

import copy
import time

import pytest
import torch
from torch import Tensor, nn

from gpw_cli.config.schema import RuntimeConfig
from gpw_cli.data.images import Images, Split
from gpw_cli.stages import services
from gpw_cli.threads import each
from gpw_cli.training.evaluate import logits


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_batches(three_threads: None) -> None:
    def compute(number: int) -> tuple[int, int]:
        time.sleep(0.002 * (number % 3))
        return number, torch.get_num_threads()

    assert each(compute, range(7)) == [(number, 1) for number in range(7)]
    assert each(compute, range(1)) == [(0, 3)]
    assert each(compute, ()) == []


def test_an_error_is_raised_and_the_count_is_restored(three_threads: None) -> None:
    with pytest.raises(ZeroDivisionError):
        each(lambda number: 1 / number, (1, 0, 1))


class Keeping(nn.Module):
    """Keeps a tensor between two steps, as a network written for one thread may."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.gain * x
        time.sleep(0.002)
        return self.kept.flatten(1)


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        raise ArithmeticError("no such image")


def ramp() -> tuple[Split, Images]:
    """20 images of one pixel, whose value is their number."""
    pixels = torch.arange(20, dtype=torch.uint8).reshape(20, 1, 1, 1)
    split = Split(pixels, torch.zeros(20, dtype=torch.long))
    return split, Images("ramp", split, split, ("one",), (0.0,), (1 / 255,), "")


def test_a_network_that_holds_an_activation_is_evaluated(three_threads: None) -> None:
    model = Keeping()
    model(torch.ones(2, 1, 1, 1)).sum().backward()
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    found = logits(model, *ramp(), batch_size=2)
    assert found.flatten().tolist() == pytest.approx(range(20))
    assert model.training


def test_a_network_that_raises_keeps_its_mode(three_threads: None) -> None:
    model = Broken()
    with pytest.raises(ArithmeticError, match="no such image"):
        logits(model, *ramp(), batch_size=2)
    assert model.training


def test_each_thread_evaluates_a_network_of_its_own(three_threads: None) -> None:
    found = logits(Keeping(), *ramp(), batch_size=2)
    assert found.flatten().tolist() == pytest.approx(range(20))


@pytest.mark.parametrize(
    ("given", "jobs", "setting", "threads"),
    [
        (None, 1, 0, 8),
        (None, 3, 0, 2),
        ("2", 1, 0, 2),
        ("4,2", 4, 0, 2),
        ("16", 1, 0, 8),
        ("0", 1, 0, 8),
        ("many", 1, 0, 8),
        ("2", 1, 5, 5),
    ],
)
def test_threads_of_a_process_stay_within_omp_num_threads(
    given: str | None, jobs: int, setting: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "usable_cores", lambda: tuple(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert services.thread_count(RuntimeConfig(threads=setting), jobs) == threads
