from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, Gpw, Ran

from gpw_cli.cli.inspect import wrapped
from gpw_cli.stages import families
from gpw_cli.stages.names import STAGES

OneLine = Callable[[Ran], str]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['gpw', '--help']\n"
        "from gpw_cli.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'pandas', 'matplotlib', 'numpy', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for command in (*STAGES, "run", "sweep", "report", "data", "ls", "config", "cache"):
        assert command in done.stdout


def test_config_and_ls(gpw: Gpw) -> None:
    assert gpw("config", "sparsity=0.7", "--json").json["pruning"]["sparsity"] == 0.7
    assert "scheme: gpw" in gpw("config").out
    listed = gpw("ls", "--json").json
    assert "resnet20" in listed["model"]
    assert listed["pruning"] == ["balanced", "block", "channel", "dense", "fine", "gpw", "vector"]
    assert {"best", "paper001", "profile", "sdp", "tvm_single"} <= set(listed["quantizer"])


def test_ls_says_what_compiles_for_the_chosen_target(
    gpw: Gpw, one_line: OneLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: families.FAMILIES[name] for name in ("squeezenet", "vit")}
    monkeypatch.setattr(families, "FAMILIES", few)
    default, same = (gpw("ls", "--json", *given) for given in ((), ("target=vta",)))
    assert default.json == same.json
    assert same.err == ""  # from the table
    engine = gpw("ls", "target=nvdla_small", "target.dram_bytes=4", "--json")
    assert engine.json["target"] == "nvdla_small"
    assert {"vit_b_16"} < set(engine.json["does not compile"])
    assert "squeezenet1_1" not in engine.json["does not compile"]
    assert "squeezenet       compiles" in engine.err
    small = gpw("ls", "target.vta.LOG_ACC_BUFF_SIZE=6", "--json")  # one accumulator element
    assert "squeezenet1_1" in small.json["does not compile"]
    assert "gpw ls takes target=NAME" in one_line(gpw("ls", "model=resnet20"))


def test_run_leaves_artifacts_and_finds_them_again(gpw: Gpw, tmp_path: Path) -> None:
    before = gpw("run", *TINY, "--dry-run", "--json")
    assert [(row["stage"], row["stored"]) for row in before.json] == [(s, False) for s in STAGES]
    first = gpw("run", *TINY, "sparsity=0.5", "--json")
    assert first.code == 0, first.err
    metrics = {name: entry["metrics"] for name, entry in first.json.items()}
    assert metrics["prune"]["groups_removed"] > 0
    assert metrics["finetune"]["n_test"] == 359
    assert 10 <= metrics["finetune"]["test_accuracy"] <= 100
    assert "pretrain  epoch 1/2" in first.err
    again = gpw("run", *TINY, "sparsity=0.5", "--json")
    assert again.out == first.out
    assert "epoch" not in again.err
    after = gpw("run", *TINY, "--dry-run", "--json")
    assert all(row["stored"] for row in after.json)
    assert metrics["simulate"]["logits_equal_reference"]
    assert metrics["simulate"]["test_accuracy"] == metrics["fuse"]["test_accuracy"]
    assert "finetune" in gpw("cache", "ls").out
    manifest = json.loads(next(tmp_path.glob(".gpw/store/finetune/*/manifest.json")).read_text())
    assert manifest["seed"] == 0
    assert manifest["inputs"]["train"]["epochs"] == 2
    assert set(manifest["files"]) == {"model.safetensors", "metrics.jsonl", "network.json"}


def test_masked_weights_are_zero_in_the_artifact(gpw: Gpw, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    assert gpw("run", *TINY, "sparsity=0.7", "scheme=gpw").code == 0
    store = tmp_path / ".gpw" / "store"
    masks = load_file(next(store.glob("prune/*/masks.safetensors")))
    weights = load_file(next(store.glob("finetune/*/model.safetensors")))
    assert masks
    for name, mask in masks.items():
        assert torch.count_nonzero(weights[name][~mask.bool()]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "sparsity=2"),
        ("run", "sparsty=0.5"),
        ("sweep", "sparsity=0.5:0.9:0.3"),
        ("sweep", "data=digits", "--name", "a/b"),
        ("report", "nothing-here"),
        ("pretrain", "pretrain.source=missing.pt"),
        ("pretrain", "pretrain.source=bundled", "model=resnet56"),
        ("run", "data=imagefolder"),
        ("run", "data=imagefolder", "data.root=nowhere"),
        ("data", "fetch", "cifar11"),
        ("simulate", "--checkpoint", "nothing-here"),
        ("simulate", "quantizer=worst"),
        ("quantize", "quantizer.weight_bits=9"),
        ("simulate", "target.timing.bus_bits=96"),
        ("simulate", "target.config_file=nowhere.json"),
        ("simulate", "target.vta.LOG_UOP_BUFF_SIZE=40"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    gpw: Gpw, one_line: OneLine, arguments: tuple[str, ...]
) -> None:
    assert one_line(gpw(*arguments)).startswith("gpw: ")


def test_bad_checkpoints(gpw: Gpw, one_line: OneLine, tmp_path: Path) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'owned'}",)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "short.pt").write_bytes((tmp_path / "evil.pt").read_bytes()[:50])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    torch.save({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "other.pt")
    for name in ("evil.pt", "short.pt", "empty.safetensors", "other.pt"):
        refused = gpw("pretrain", "data=digits", f"pretrain.source={name}")
        assert name in one_line(refused)
    assert not (tmp_path / "owned").exists()


def test_a_read_only_store_is_exit_code_1(gpw: Gpw, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = gpw("prune", *TINY, "runtime.root=file")
    assert refused.code == 1
    assert "runtime.root=FOLDER" in refused.err
    assert "Traceback" not in refused.err


def test_divergence_is_exit_code_1_with_advice(gpw: Gpw) -> None:
    refused = gpw("pretrain", *TINY, "pretrain.train.lr=1e20")
    assert refused.code == 1
    assert refused.err.strip().splitlines()[-1].startswith("gpw: pretrain: the loss is not finite")


def test_completion_offers_groups_and_options() -> None:
    environment = {
        **os.environ,
        "_GPW_COMPLETE": "complete_bash",
        "COMP_WORDS": "gpw run scheme=",
        "COMP_CWORD": "2",
    }
    code = "import sys; sys.argv = ['gpw']; from gpw_cli.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "scheme=gpw" in done.stdout


def test_names_are_not_broken_at_the_edge_of_the_terminal() -> None:
    names = [f"network_{n}" for n in range(40)]
    lines = wrapped("model", names, 100).splitlines()
    assert len(lines) > 4
    assert max(map(len, lines)) <= 100
    assert "".join(lines).split() == ["model", *names]
    assert all(line.startswith(" " * 17) for line in lines[1:])


def test_a_pipe_gets_lines_of_a_readable_width(gpw: Gpw, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, widest in (("", 100), ("60", 60)):
        monkeypatch.setenv("COLUMNS", columns)
        lines = gpw("ls").out.splitlines()
        assert max(map(len, lines[:-1])) <= widest


@pytest.mark.parametrize(
    "command",
    [("data", "fetch"), ("data", "check"), ("data", "ls"), ("data", "fetch", "digits"),
     ("cache", "ls"), ("cache", "gc")],
)  # fmt: skip
def test_runtime_root_is_store_where_no_run_is_configured(gpw: Gpw, one_line, command) -> None:
    assert "--store FOLDER" in one_line(gpw(*command, "runtime.root=elsewhere"))


def test_data_ls_says_what_the_store_has(gpw: Gpw, tmp_path: Path) -> None:
    (tmp_path / "there/data/cifar10").mkdir(parents=True)
    stored = {
        store: {row["name"]: row["stored"] for row in gpw("data", "ls", *given, "--json").json}
        for store, given in {"none": (), "there": ("--store", "there")}.items()
    }
    assert stored["none"]["cifar10"] is None
    assert stored["there"]["cifar10"] == "there/data/cifar10"
    assert "there/data/cifar10" in gpw("data", "ls", "--store", "there").out
    assert gpw("cache", "ls", "--store", "there").out == "no artifacts in there/store\n"
