from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

import gpw_cli as gpw
from gpw_cli.data.digits import load_digits_images
from gpw_cli.data.images import normalise
from gpw_cli.errors import UsageError
from gpw_cli.graph.trace import trace
from gpw_cli.models.registry import build_model
from gpw_cli.quantization.reference import quantize_input, run


def test_the_pipeline_as_functions() -> None:
    data = load_digits_images(16, 1)
    images = normalise(data.train.images[:96], data.mean, data.std)
    torch.manual_seed(0)
    model = build_model("digits_cnn", 10, 1, "A")
    result = gpw.prune(model, images, sparsity=0.7)
    assert (result.groups_removed, result.groups_total) == (277, 396)
    weight = model.get_parameter("features.3.weight")
    assert not weight[~result.masks["features.3.weight"]].any()
    options = ["finetune.train=digits_restart", "finetune.train.epochs=1"]
    records = gpw.finetune(model, result.masks, data, overrides=options)
    assert len(records) == 1
    assert not weight[~result.masks["features.3.weight"]].any()
    model.eval()
    graph = gpw.quantize(model, images)
    compiled = gpw.compile(graph)
    logits = gpw.simulate(compiled, graph, images[:8])
    assert np.array_equal(logits, run(graph, quantize_input(graph, images[:8])))
    timing = gpw.cycles(compiled)
    assert timing.cycles >= timing.bound_cycles > 0


def test_a_budget_and_gradients() -> None:
    data = load_digits_images(16, 1)
    images = normalise(data.train.images[:64], data.mean, data.std)
    torch.manual_seed(0)
    model = build_model("digits_cnn", 10, 1, "A").eval()
    with pytest.raises(UsageError, match="give labels"):
        gpw.prune(model, images, criterion="taylor")
    labels = data.train.labels[:64]
    gpw.prune(model, images, budget=9000, criterion="taylor", labels=labels)
    cycles = gpw.cycles(gpw.compile(gpw.quantize(model, images))).cycles
    assert 0.97 * 9000 <= cycles <= 9000


@pytest.fixture(scope="module")
def small() -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = build_model("digits_cnn", 10, 1, "A")
    return model, torch.randn(4, 1, 16, 16)


MASK = torch.ones(64, 16, 3, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x: gpw.prune("net", x), "model is a str"),
        (lambda m, x: gpw.prune(m, x.numpy()), "images are ndarray"),
        (lambda m, x: gpw.prune(m, x[0]), r"images are float32 \[1, 16, 16\]"),
        (lambda m, x: gpw.prune(m, x.byte()), "images are uint8"),
        (lambda m, x: gpw.prune(m, x.repeat(1, 3, 1, 1)), r"does not take an image \[3, 16, 16\]"),
        (lambda m, x: gpw.prune(m, x, scheme="dense"), "scheme=dense prunes nothing"),
        (lambda m, x: gpw.prune(m, x, labels=torch.tensor([1, 2])), r"labels \[2\] for 4 images"),
        (lambda m, x: gpw.prune(m, x, labels=torch.full((4,), 10)), "the model has 10 outputs"),
        (lambda m, x: gpw.prune(m, x, overrides=["bits=6"]), "bits=6' has no effect here"),
        (lambda m, x: gpw.prune(m, x, overrides="scope=global"), "expected a list"),
        (lambda m, x: gpw.finetune(m, {}, x), "data are Tensor"),
        (lambda m, x: gpw.quantize(m, x[:0]), r"images are float32 \[0, 1, 16, 16\]"),
        (lambda m, x: gpw.quantize(m, x, overrides=["seed=1"]), "no effect here"),
        (lambda m, x: gpw.compile(m), "what quantize returns, not a DigitsCnn"),
        (lambda m, x: gpw.compile(trace(m, (1, 16, 16))), "not a Graph"),
        (lambda m, x: gpw.cycles(m), "what compile returns"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(small, call, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=words) as caught:
        call(*small)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ({"other.weight": MASK}, "has no other.weight"),
        ({"features.3.weight": MASK[:, :8]}, r"is \[64, 8, 3, 3\]"),
        ({"features.3.weight": MASK.float()}, "no tensor of bools"),
        (namedtuple("Result", "masks")({}), "masks are a Result"),
    ],
)
def test_masks_of_another_model_are_refused(small, masks, words) -> None:  # type: ignore[no-untyped-def]
    model, _ = small
    with pytest.raises(UsageError, match=words):
        gpw.finetune(model, masks, load_digits_images(16, 1), recipe="digits", epochs=1)


def test_modules_keep_their_modes(small) -> None:  # type: ignore[no-untyped-def]
    model, images = small
    model.train()
    frozen = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    frozen.eval()
    gpw.prune(model, images, criterion="taylor", labels=torch.arange(4))
    assert model.training
    assert not frozen.training


def test_results_as_a_table() -> None:
    frame = gpw.load_results(Path(__file__).resolve().parent.parent / "results" / "paper_gpw")
    assert (frame["status"] == "done").sum() > 40
    assert {"scheme", "sparsity", "npu_accuracy", "cycles"} <= set(frame.columns)


def test_a_planned_sweep_imports_no_torch() -> None:
    """A sweep whose runs are all in the store takes one second, of which torch would be another."""
    code = "import sys; from gpw_cli.sweep.plan import Request, plan_sweep; "
    code += "plan_sweep(Request(['data=digits', 'sparsity=0.5,0.7'])); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_gpw_imports_no_torch() -> None:
    code = "import sys, gpw_cli; sys.exit('torch' in sys.modules or not hasattr(gpw_cli, 'prune'))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        _ = gpw.prun  # type: ignore[attr-defined]
