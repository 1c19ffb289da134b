from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gpw_cli as gpw
from gpw_cli.data.digits import load_digits_images
from gpw_cli.data.images import normalise
from gpw_cli.errors import UsageError
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


def test_results_as_a_table() -> None:
    frame = gpw.load_results(Path(__file__).resolve().parent.parent / "results" / "paper_gpw")
    assert (frame["status"] == "done").sum() > 40
    assert {"scheme", "sparsity", "npu_accuracy", "cycles"} <= set(frame.columns)


def test_importing_gpw_imports_no_torch() -> None:
    code = "import sys, gpw_cli; sys.exit('torch' in sys.modules or not hasattr(gpw_cli, 'prune'))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        _ = gpw.prun  # type: ignore[attr-defined]
