"""The float graph that quantize leaves, and fuse, which reads it instead of tracing again."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Gpw
from float_graphs import random_graph, whole_images

from gpw_cli.config.quantizer import QuantizerConfig
from gpw_cli.errors import CheckpointError
from gpw_cli.graph import float_io, integer_io
from gpw_cli.graph.ir import Clip, Conv, Graph, Input
from gpw_cli.graph.moves import Concat, Select
from gpw_cli.quantization.quantize import quantize_graph
from gpw_cli.quantization.ranges import calibrate

RUN = ("fuse", "data=digits", "pretrain.train.epochs=0", "scheme=dense", "seed=3")


def small() -> Graph:
    """Also what the random graphs lack: infinite limits, several parts, an array of indices."""
    weight = np.random.default_rng(1).normal(size=(4, 2, 1, 1)).swapaxes(0, 1)  # not contiguous
    return Graph(
        (
            Input("input", (2, 3, 3), (0.1, 0.2), (1.0, 0.5)),
            Clip("clip", "input", 0.0, float("inf"), (2, 3, 3)),
            Concat("both", ("clip", "input"), (4, 3, 3)),
            Select("mixed", "both", np.array([3, 1, 0, 2]), (4, 3, 3)),
            Conv(
                "conv", "mixed", weight.transpose(0, 1, 3, 2), np.ones(2), (1, 1), (0, 0), (2, 3, 3)
            ),
        ),
        "conv",
    )


def assert_equal(old: Graph, new: Graph | None) -> None:
    assert new is not None
    assert old.output == new.output
    for a, b in zip(old.nodes, new.nodes, strict=True):
        assert type(a) is type(b)
        for field in fields(a):
            left: Any = getattr(a, field.name)
            right: Any = getattr(b, field.name)
            assert type(left) is type(right)
            np.testing.assert_array_equal(left, right)
            assert not isinstance(left, np.ndarray) or left.dtype == right.dtype


@pytest.mark.parametrize("seed", range(8))
def test_saved_graphs_load_equal_and_are_quantized_alike(tmp_path: Path, seed: int) -> None:
    graph, cfg = random_graph(seed), QuantizerConfig()
    float_io.save(graph, tmp_path)
    loaded = float_io.load(tmp_path)
    assert_equal(graph, loaded)
    assert loaded is not None
    ranges = calibrate(graph, [whole_images(graph, 4).float()], cfg)
    written = []
    for one in (graph, loaded):
        integer_io.save(quantize_graph(one, ranges, cfg, fused=True), tmp_path)
        names = (integer_io.ARRAYS, integer_io.GRAPH)
        written.append([(tmp_path / name).read_bytes() for name in names])
    assert written[0] == written[1]


def test_every_field_comes_back(tmp_path: Path) -> None:
    float_io.save(small(), tmp_path)
    assert_equal(small(), float_io.load(tmp_path))


def test_a_folder_without_one(tmp_path: Path) -> None:
    assert float_io.load(tmp_path) is None


@pytest.mark.parametrize("name", [float_io.ARRAYS, float_io.GRAPH])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    float_io.save(small(), tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="quantize again"):
        float_io.load(tmp_path)


def fused(root: Path) -> bytes:
    (file,) = root.glob(f"store/fuse/*/{integer_io.GRAPH}")
    return file.read_bytes() + (file.parent / integer_io.ARRAYS).read_bytes()


def test_fuse_does_not_trace_unless_the_artifact_is_older(
    gpw: Gpw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_trace(job: object) -> Graph:
        raise AssertionError("traced again")

    with monkeypatch.context() as patch:
        patch.setattr("gpw_cli.stages.fuse.float_graph", no_trace)
        ran = gpw(*RUN, "runtime.root=new")
        assert ran.code == 0, ran.err
    monkeypatch.setattr("gpw_cli.stages.quantize.float_io.save", lambda graph, folder: None)
    ran = gpw(*RUN, "runtime.root=old")
    assert ran.code == 0, ran.err
    assert not list(tmp_path.glob(f"old/store/quantize/*/{float_io.GRAPH}"))
    assert fused(tmp_path / "new") == fused(tmp_path / "old")
