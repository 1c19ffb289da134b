"""``gpw simulate`` through the command line: checkpoints, exports, traces, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY, Gpw, Ran
from safetensors.numpy import save_file

from gpw_cli.config.compose import compose
from gpw_cli.stages.integers import LOGITS
from gpw_cli.stages.pipeline import plan
from gpw_cli.stages.simulate import reference_logits
from gpw_cli.store.store import Artifact
from gpw_cli.targets.vta.export import load_exported
from gpw_cli.targets.vta.functional.simulator import FunctionalResult, Simulator, simulate

OneLine = Callable[[Ran], str]
DENSE = (*TINY, "scheme=dense")


def test_the_logits_that_fuse_left_are_compared_with(tmp_path: Path) -> None:
    job = SimpleNamespace(upstream={"fuse": Artifact("key", tmp_path, {})})
    assert reference_logits(job, 2) is None  # of an artifact from before they were kept
    logits = np.arange(30, dtype=np.int32).reshape(3, 10)
    save_file({"logits": logits}, tmp_path / LOGITS)
    assert np.array_equal(reference_logits(job, 2), logits[:2])
    assert reference_logits(job, 4) is None  # fuse evaluated fewer


@pytest.fixture
def dense(gpw: Gpw) -> Path:
    """The weights of a dense network of seconds."""
    ran = gpw("pretrain", *DENSE, "--json")
    assert ran.code == 0, ran.err
    return Path(".gpw/store/pretrain") / ran.json["pretrain"]["key"]


def test_export_and_trace_of_our_own_checkpoint(gpw: Gpw, dense: Path, tmp_path: Path) -> None:
    command = ("simulate", "data=digits", "--images", "32", "--json")
    ran = gpw(*command, "--checkpoint", str(dense), "--export", "out", "--trace", "trace.json")
    assert ran.code == 0, ran.err
    metrics = ran.json["simulate"]["metrics"]
    assert metrics["n_test"] == 32
    assert metrics["cycles"] >= metrics["bound_cycles"] == max(metrics["bound"].values())
    assert "prune" not in ran.json
    exported = load_exported(tmp_path / "out")
    assert exported.program.length == metrics["instructions"]
    logits = simulate(exported.program, exported.image[None]).logits
    assert logits.shape == (1, 10)
    assert len(exported.expected) == len(exported.program.dram)
    events = json.loads(Path("trace.json").read_text())["traceEvents"]
    assert {"gemm", "alu", "inp", "wgt", "out"} <= {event["name"] for event in events}
    # the key, and an unambiguous beginning of it, name the same artifact
    again = gpw(*command, "--checkpoint", dense.name[:8])
    assert again.json["simulate"]["key"] == ran.json["simulate"]["key"]


def test_few_images_are_few_in_every_stage(gpw: Gpw, dense: Path) -> None:
    def counted(*command: str) -> tuple[dict[str, int], dict[str, str], str]:
        ran = gpw(*command, "--json")
        assert ran.code == 0, ran.err
        found = {stage: value for stage, value in ran.json.items() if stage != "files"}
        seen = {stage: value["metrics"]["n_test"] for stage, value in found.items()}
        return seen, {stage: value["key"] for stage, value in found.items()}, gpw(*command).out

    checkpoint = ("simulate", "data=digits", "--checkpoint", str(dense))
    seen, keys, out = counted(*checkpoint, "--images", "6")
    assert seen == dict.fromkeys(("pretrain", "quantize", "fuse", "simulate"), 6)
    assert "(n = 6)" in out
    every, all_keys, _ = counted(*checkpoint, "--images", "0")
    assert every == dict.fromkeys(seen, 359)
    assert not set(keys.values()) & set(all_keys.values())
    # what was trained is kept, and evaluated on all images
    seen, keys, out = counted("simulate", *TINY, "--images", "6")
    trained = {"pretrain": 359, "prune": 359, "finetune": 359}
    assert seen == {**trained, "quantize": 6, "fuse": 6, "simulate": 6}
    assert "(n = 6), dense" in out
    assert "(n = 359)" in out
    planned = {step.stage.name: step.key for step in plan(compose(list(TINY)))}
    assert {stage for stage in keys if keys[stage] == planned[stage]} == set(trained)


def test_zero_tiles_cost_nothing(gpw: Gpw) -> None:
    def simulated(*overrides: str) -> dict[str, int]:
        ran = gpw("simulate", *TINY, "--images", "8", "--json", *overrides)
        assert ran.code == 0, ran.err
        metrics: dict[str, int] = ran.json["simulate"]["metrics"]
        return metrics

    full, half, most = (
        simulated("scheme=dense"),
        simulated("sparsity=0.5"),
        simulated("sparsity=0.9"),
    )
    assert full["gemm_uops"] > half["gemm_uops"] > most["gemm_uops"]
    assert full["dram_bytes"] > half["dram_bytes"] > most["dram_bytes"]
    assert full["cycles"] > half["cycles"] > most["cycles"]


def test_a_foreign_network_is_recognised(gpw: Gpw, tmp_path: Path) -> None:
    from gpw_cli.models.registry import build_model

    torch.manual_seed(0)
    state = build_model("digits_cnn", 10, 1, "A").state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, "foreign.pth")
    ran = gpw("simulate", "data=digits", "--images", "4", "--json", "--checkpoint", "foreign.pth")
    assert ran.code == 0, ran.err
    assert ran.json["pretrain"]["metrics"]["source"] == "foreign.pth"
    assert ran.json["simulate"]["metrics"]["logits_equal_reference"]


@pytest.mark.parametrize("block", [3, 5])
def test_other_geometries(gpw: Gpw, dense: Path, block: int) -> None:
    sizes = {"INP": 13, "WGT": 15, "ACC": 15} if block == 3 else {}
    geometry = {"LOG_BLOCK": block, **{f"LOG_{k}_BUFF_SIZE": v for k, v in sizes.items()}}
    ran = gpw(
        "simulate",
        "data=digits",
        "--checkpoint",
        str(dense),
        "--images",
        "8",
        "--json",
        *(f"target.vta.{key}={value}" for key, value in geometry.items()),
    )
    assert ran.code == 0, ran.err
    assert ran.json["simulate"]["metrics"]["logits_equal_reference"]


def test_a_run_of_several_images_is_named(gpw: Gpw, dense: Path) -> None:
    command = ("simulate", "data=digits", "--checkpoint", str(dense), "--images", "7")
    batch = "target.vta.LOG_BATCH=1"
    one, two = gpw(*command, "--json").json, gpw(*command, batch, "--json").json
    one, two = one["simulate"]["metrics"], two["simulate"]["metrics"]
    assert "pictures_per_run" not in one
    assert two["pictures_per_run"] == 2
    assert one["cycles"] < two["cycles"] < 2 * one["cycles"]
    assert one["test_accuracy"] == two["test_accuracy"]
    assert f"{two['cycles']:,} cycles for 2 images (" in gpw(*command, batch).out


def test_a_wrong_logit_is_found(gpw: Gpw, dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_one(self: Simulator, images: np.ndarray) -> FunctionalResult:
        result = run(self, images)
        result.logits[1, 3] += 1
        return result

    run = Simulator.run
    monkeypatch.setattr(Simulator, "run", off_by_one)
    ran = gpw("simulate", "data=digits", "--checkpoint", str(dense), "--images", "5")
    assert ran.code == 2
    assert "logit 3 of test image 1 differs from the integer reference" in ran.err
    assert not list(Path(".gpw/store/simulate").glob("*/manifest.json"))


def test_a_users_own_vta_json(gpw: Gpw, dense: Path) -> None:
    config = {
        "TARGET": "sim",
        "HW_VER": "0.0.2",
        "LOG_INP_WIDTH": 3,
        "LOG_WGT_WIDTH": 3,
        "LOG_ACC_WIDTH": 5,
        "LOG_BATCH": 0,
        "LOG_BLOCK": 4,
        "LOG_UOP_BUFF_SIZE": 15,
        "LOG_INP_BUFF_SIZE": 14,
        "LOG_WGT_BUFF_SIZE": 16,
        "LOG_ACC_BUFF_SIZE": 16,
    }
    Path("mine.json").write_text(json.dumps(config))
    command = ("simulate", "data=digits", "--checkpoint", str(dense), "--images", "4", "--json")
    ran = gpw(*command, "target.config_file=mine.json", "--export", "out")
    assert ran.code == 0, ran.err
    assert load_exported("out").program.spec.log_wgt_buff_size == 16


def test_refusals(gpw: Gpw, one_line: OneLine, dense: Path) -> None:
    Path("taken").mkdir()
    Path("taken/notes.txt").write_text("mine")
    base = ("simulate", "data=digits", "--checkpoint", str(dense), "--images", "4")
    refused = gpw(*base, "--export", "taken")
    assert refused.code == 2
    assert refused.err.strip().splitlines()[-1].startswith("gpw: taken: exists")
    assert Path("taken/notes.txt").read_text() == "mine"
    small = gpw(*base, "target.vta.LOG_WGT_BUFF_SIZE=7")
    assert small.code == 2
    assert "Traceback" not in small.err
    assert one_line(gpw("simulate", "--checkpoint", "zzzz")).startswith("gpw: --checkpoint zzzz")


@pytest.mark.parametrize("ignored", ["sparsity=0.8", "seed=3", "finetune.train.epochs=2"])
def test_what_a_checkpoint_would_ignore_is_refused(
    gpw: Gpw, one_line: Callable[[Ran], str], dense: Path, ignored: str
) -> None:
    ran = gpw("simulate", "data=digits", "--checkpoint", str(dense), ignored)
    assert f"'{ignored}' has no effect on --checkpoint" in one_line(ran)


def test_an_unknown_operator_is_refused_by_name(gpw: Gpw) -> None:
    ran = gpw(
        "quantize",
        "model=mobilenet_v3_small",
        "data=digits",
        "data.size=32",
        "data.channels=3",
        "scheme=dense",
        "pretrain.train.epochs=0",
    )
    assert ran.code == 2
    assert "Traceback" not in ran.err
    assert "\ngpw: " in f"\n{ran.err}"
    listed = ran.err[ran.err.index("gpw: ") :].splitlines()[1:]  # a line for each kind of operator
    assert listed
    assert all("features" in line for line in listed)  # the paths of the modules


def test_bits_and_logits_of_every_preset(gpw: Gpw, dense: Path) -> None:
    base = ("simulate", "data=digits", "--checkpoint", str(dense), "--images", "16", "--json")
    for preset in ("best", "nest_fused", "profile", "tvm_single"):
        ran = gpw(*base, f"quantizer={preset}", "bits=6")
        assert ran.code == 0, ran.err
        assert ran.json["simulate"]["metrics"]["logits_equal_reference"], preset
    assert np.isfinite(ran.json["simulate"]["metrics"]["test_accuracy"])
