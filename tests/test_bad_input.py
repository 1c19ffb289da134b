"""Input that once ended in a traceback, a hang or silence: one line and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Gpw, Ran
from safetensors.torch import save_file

from gpw_cli.models.registry import build_model
from gpw_cli.sweep.plan import Request, plan_sweep

OneLine = Callable[[Ran], str]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("pretrain.train.lr=inf", "pretrain.train.lr=inf must be at least 0 and finite"),
        ("finetune.train.weight_decay=inf", "must be at least 0 and finite"),
        ("pretrain.train.crop=1000", "crop=1000 must be below the 32 pixels"),
        ("pretrain.train.milestones=[5,-2]", "-2 is no epoch"),
        ("target.timing.clock_mhz=nan", "clock_mhz=nan, must be within 0.001 .. 100000"),
        ("target.timing.clock_mhz=inf", "clock_mhz=inf, must be within"),
        ("target.timing.clock_mhz=0", "clock_mhz=0.0, must be within 0.001 .."),
        ("target.timing.read_latency=99999999999999999999", "must be within 0 .. 1000000"),
        ("target.timing.burst_beats=3", "burst_beats=3, must be a power of two"),
        ("target.timing.burst_beats=1000000000", "must be within 2 .. 256"),
        ("target.timing.gemm_cycles=0", "must be within 1 .. 1000000"),
        ("pruning.tile_out=99999", "tile_out=99999 must be between 0 and 4096"),
        ("pruning.tile_in=-3", "tile_in=-3 must be between 0 and 4096"),
        ("data.size=100000", "data.size=100000 must be between 0 and 4096"),
        ("data.channels=7", "data.channels=7 must be 1, 3 or 0"),
        ("runtime.root=", "runtime.root= is empty"),
        ("runtime.results=", "runtime.results= is empty"),
        ("runtime.threads=100000", "must be between 0 and 4096"),
        (
            "model.args={width_mult:0.5}",
            "only your own network and plug-ins take any, not resnet20",
        ),
        ("+foo.bar=1", "keys cannot be added or removed"),
        ("+pruning._target_=os.system", "keys cannot be added or removed"),
        ("pruning._target_=os.system", "unknown key 'pruning._target_'"),
        ("~pruning", "keys cannot be added or removed"),
        ("++seed=1", "keys cannot be added or removed"),
        ("seed=" + "9" * 5000, "seed=99"),
        ("pretrain.train.milestones=" + "[" * 2000 + "]" * 2000, "milestones"),
        ("data.root=${seed", "data.root"),
        ("data.root=${nothing.here}", "nothing"),
        ("seed=${seed}", "seed"),
    ],
)
def test_overrides(gpw: Gpw, one_line: OneLine, override: str, words: str) -> None:
    refused = one_line(gpw("config", override))
    assert refused.startswith("gpw: ")
    assert words in refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "data=digits", "data.root=/nonexistent"), "digits come with scikit-learn"),
        (("sweep", "sparsity=0:1e999999999"), "a number of a range has at most"),
        (("sweep", "sparsity=1e-999999999:1"), "a number of a range has at most"),
        (("sweep", "sparsity=0:1:1e-30"), "a number of a range has at most"),
        (("sweep", "seed=0:999", "sparsity=0:0.999"), "runs; a sweep has at most 100,000"),
        (("sweep", "--jobs", ""), "--jobs : expected a number"),
        (("sweep", "--name", ""), "--name : use letters"),
        (("simulate", "--checkpoint", "**"), "--checkpoint **: no such file"),
        (("export", "21e7", "--to", "net.pt2"), "21e7: no such file"),
        (("export", "21e7", "--to", "net.pt2", "seed=1"), "no effect on gpw export"),
        (("config", "model=nope"), "resnet8, a torchvision network, FILE.py:NAME"),
        (("simulate", "--checkpoint", "a" * 5000), "no such file"),
        (("config", "--config-dir", "/nonexistent"), "--config-dir /nonexistent: no such folder"),
        (("simulate", "--images", "many"), "Invalid value for '--images'"),
        (("run", "--nope"), "No such option: --nope"),
        (("nope",), "No such command 'nope'"),
        (("data", "fetch"), "Missing argument"),
        (("cache", "gc", "--min-age", "nan"), "--min-age"),
    ],
)
def test_commands(gpw: Gpw, one_line: OneLine, arguments: tuple[str, ...], words: str) -> None:
    assert words in one_line(gpw(*arguments))


def test_options_of_ones_own(gpw: Gpw, one_line: OneLine, tmp_path: Path) -> None:
    own = tmp_path / "conf ,of'mine"
    (own / "train").mkdir(parents=True)
    (own / "train" / "mine.yaml").write_text("epochs: 3\n")
    (own / "train" / "odd.yaml").write_text("epoch: 3\n")
    (own / "train" / "evil.yaml").write_text("name: !!python/object/apply:os.getcwd []\n")
    (own / "train" / "broken.yaml").write_text("name: [\n")
    given = ("--config-dir", str(own))
    read = gpw("config", "train=mine", *given, "--json")
    assert read.code == 0, read.err
    assert read.json["finetune"]["train"]["epochs"] == 3
    assert "'epoch' not in 'Recipe'" in one_line(gpw("config", "train=odd", *given))
    assert "python/object/apply" in one_line(gpw("config", "train=evil", *given))
    assert "broken.yaml, line" in one_line(gpw("config", "train=broken", *given))
    assert "broken, " in one_line(gpw("config", "train=nope", *given))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc")
def test_a_folder_that_nobody_can_make(gpw: Gpw) -> None:
    refused = gpw("pretrain", "data=digits", "runtime.root=/proc/nothing/here")
    assert (refused.code, len(refused.err.splitlines())) == (1, 1)
    assert "no folder can be made at /proc/nothing/here" in refused.err


def test_a_large_sweep_gives_signs_of_life() -> None:
    told: list[tuple[str, int, int | None]] = []
    asked = ["scheme=gpw", "sparsity=0.001:0.5:0.001"]
    plan_sweep(Request(asked), lambda *event: told.append(event))
    assert told == [("planning: runs", n, 500) for n in (200, 400)]


STATE = build_model("digits_cnn", 10, 1, "A").state_dict()
VARIANCE = next(key for key in STATE if key.endswith("running_var"))
FLOATS = {key: tensor for key, tensor in STATE.items() if tensor.is_floating_point()}


def everywhere(change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**STATE, **{key: change(tensor) for key, tensor in FLOATS.items()}}


def contains_itself() -> dict[str, object]:
    content: dict[str, object] = {"epoch": 1}
    content["model"] = content
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (everywhere(lambda t: t.to(torch.complex64)), "holds no real numbers (complex64)"),
        (everywhere(lambda t: t > 0), "is bool instead of float32"),
        (everywhere(lambda t: t.to(torch.int8)), "is int8 instead of float32"),
        (everywhere(lambda t: t.double() + 1e300), "not finite (NaN or infinite) in fp32"),
        (everywhere(lambda t: t[:1].clone().expand_as(t)), "repeats its numbers in memory"),
        ({**STATE, VARIANCE: -STATE[VARIANCE]}, "holds negative values"),
        ({"w": torch.zeros(1).expand(1 << 40)}, "no network here does"),
        (contains_itself(), "no state dict"),
    ],
    ids=["complex", "bool", "int8", "1e300", "expanded", "variance", "huge", "itself"],
)
def test_checkpoints(
    gpw: Gpw, one_line: OneLine, tmp_path: Path, content: dict[str, torch.Tensor], words: str
) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert words in one_line(gpw("pretrain", "data=digits", "pretrain.source=x.pth"))


def test_half_precision_is_as_good(gpw: Gpw, tmp_path: Path) -> None:
    save_file({k: t.half() for k, t in FLOATS.items()}, tmp_path / "half.safetensors")
    read = gpw("pretrain", "data=digits", "pretrain.source=half.safetensors")
    assert read.code == 0, read.err


@pytest.mark.parametrize("device", ["fifo", "/dev/zero", "."])
def test_what_is_no_file_is_not_waited_for(
    gpw: Gpw, one_line: OneLine, tmp_path: Path, device: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "pretrain.source=" in one_line(
        gpw("pretrain", "data=digits", f"pretrain.source={device}")
    )
    assert "--checkpoint" in one_line(gpw("simulate", "data=digits", "--checkpoint", device))
    assert "VTA configuration" in one_line(
        gpw("run", "data=digits", f"target.config_file={device}", "--dry-run")
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_cannot_be_written() -> None:
    command = [sys.executable, "-m", "gpw_cli", "ls", "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "gpw: cannot write the output: No space left on device\n"


def test_a_closed_pipe_ends_quietly() -> None:
    command = [sys.executable, "-m", "gpw_cli", "ls", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    "given",
    [
        ("run", "data=digits", "scheme=dense", "sparsity=0.7"),
        ("finetune", "data=digits", "pruning=dense", "rounding=ceil"),
        ("simulate", "data=digits", "scheme=dense", "pruning.tile_in=8"),
        ("run", "pretrain.train.epochs=99"),
        ("simulate", "pretrain.train=paper"),
        ("run", "data=digits", "scope=cycles", "pruning.budget=9000", "sparsity=0.5"),
        ("sweep", "data=digits", "scope=cycles", "pruning.budget=9000,8000", "sparsity=0.5"),
        ("sweep", "data=digits", "scheme=dense", "bits=8,6", "sparsity=0.5"),
        ("sweep", "sparsity=0.5,0.7", "pretrain.train.epochs=3"),
    ],
)
def test_what_would_be_ignored_is_refused(
    gpw: Gpw, one_line: OneLine, given: tuple[str, ...]
) -> None:
    assert f"{given[-1]} has no effect" in one_line(gpw(*given, "--dry-run"))


def test_what_is_used_is_not_refused(gpw: Gpw) -> None:
    for given in (
        ("data=digits", "scheme=dense", "pretrain.train.epochs=2", "train=digits"),
        ("finetune.rewind=3", "pretrain.train.epochs=40", "data=digits"),
    ):
        assert gpw("run", *given, "--dry-run").code == 0
    for given in (
        ("data=digits", "scheme=dense,gpw", "sparsity=0.7"),
        ("model=resnet20,resnet8", "sparsity=0.7", "pretrain.train.epochs=3"),
    ):
        assert gpw("sweep", *given, "--dry-run").code == 0
