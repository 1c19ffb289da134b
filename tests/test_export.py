from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from gpw_cli.config.compose import compose
from gpw_cli.data.digits import load_digits_images
from gpw_cli.data.images import normalise
from gpw_cli.errors import UsageError
from gpw_cli.graph.dead import remove_dead
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.fold import fold
from gpw_cli.graph.module import GraphModule
from gpw_cli.graph.trace import trace
from gpw_cli.models.registry import build_model
from gpw_cli.quantization.quantize import prepare, quantize_graph
from gpw_cli.quantization.ranges import calibrate
from gpw_cli.quantization.reference import quantize_input, run
from gpw_cli.sweep.stored import stored_run
from tests.networks import randomise

ONE = ("data=digits", "pretrain.train.epochs=1", "finetune.train.epochs=1", "sparsity=0.5")


@pytest.mark.parametrize(
    ("name", "shape"), [("resnet8", (3, 32, 32)), ("squeezenet1_1", (3, 64, 64))]
)
def test_a_graph_as_a_module_and_as_onnx_gives_the_same_logits(name, shape) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from gpw_cli.graph.onnx_out import float_model

    model = randomise(build_model(name, 10, 3, "A")).eval()
    graph = remove_dead(fold(trace(model, shape)))
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    wanted = run_float(graph, x)
    assert torch.equal(GraphModule(graph).eval()(x), wanted)
    session = onnxruntime.InferenceSession(float_model(graph).SerializeToString())
    (found,) = session.run(None, {"input": x.numpy()})
    assert np.abs(found - wanted.numpy()).max() <= 1e-4 * max(1, float(wanted.abs().max()))


class Fire(nn.Module):
    """A concatenation as SqueezeNet and GoogLeNet have it, pooled and enlarged again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.narrow = nn.Conv2d(16, 8, 1)
        self.left, self.right = nn.Conv2d(8, 12, 1), nn.Conv2d(8, 20, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2)
        self.last = nn.Conv2d(32, 10, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, ceil_mode=True)
        x = F.relu(self.narrow(x))
        x = torch.cat([F.relu(self.left(x)), F.relu(self.right(x))], 1)
        return self.last(self.up(x)).mean((2, 3))


class Inverted(nn.Module):
    """ReLU6, a depthwise convolution and a shortcut as MobileNet-V2 has them, channels shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.wide = nn.Sequential(nn.Conv2d(16, 48, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(48, 48, 3, 1, 1, groups=48), nn.ReLU6())
        self.thin = nn.Conv2d(48, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = F.relu6(2 * self.stem(x))
        x = x + self.thin(self.depth(self.wide(x)))
        kept, turned = (
            x.view(x.shape[0], 2, 8, *x.shape[2:]).transpose(1, 2).flatten(1, 2).chunk(2, 1)
        )
        return self.head(torch.cat([kept, F.relu(turned)], 1).mean((2, 3)))


@pytest.mark.parametrize(
    ("network", "written"),
    [(Fire, {"Concat", "Resize", "MaxPool"}), (Inverted, {"Clip", "Gather", "Concat"})],
)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("settings", [(), ("quantizer.rounding=truncate",), ("bits=6",)])
def test_a_quantized_graph_has_the_codes_of_onnxruntime(network, written, fused, settings) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from gpw_cli.graph.onnx_out import quantized_model

    torch.manual_seed(0)
    cfg, x = compose(settings).quantizer, torch.randn(32, 3, 16, 16)
    graph = prepare(trace(randomise(network()), (3, 16, 16)), cfg)
    integers = quantize_graph(graph, calibrate(graph, [x], cfg), cfg, fused=fused)
    model = quantized_model(integers)
    assert written <= {node.op_type for node in model.graph.node}
    ours = run(integers, quantize_input(integers, x)) * integers.scales[integers.output]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"image": x.numpy()})
    assert np.abs(found - ours).max() < 1e-5 * np.abs(ours).max()
    wanted = run_float(graph, x).numpy()
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()


def test_export_writes_every_format_and_they_agree(gpw, one_line, tmp_path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    ran = gpw("run", "--json", *ONE)
    keys = {stage: found["key"] for stage, found in ran.json.items()}
    accuracy = ran.json["fuse"]["metrics"]["test_accuracy"]
    for arguments in (["--to", "net.pt2"], ["--to", "net.safetensors"], ["--to", "net.onnx"],
                      ["--to", "net8.onnx", "--int8"], ["--to", "program"]):  # fmt: skip
        assert gpw("export", keys["finetune"], *arguments).code == 0
    data = load_digits_images(16, 1)
    x = normalise(data.test.images, data.mean, data.std)
    code = "import sys, torch; p = torch.export.load('net.pt2').module(); "
    code += "torch.save(p(torch.load('x.pt')), 'y.pt'); assert 'gpw_cli' not in sys.modules"
    torch.save(x, tmp_path / "x.pt")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    alone = torch.load(tmp_path / "y.pt").detach().numpy()
    (logits,) = onnxruntime.InferenceSession("net.onnx").run(None, {"input": x.numpy()})
    assert np.abs(logits - alone).max() < 1e-3
    (small,) = onnxruntime.InferenceSession("net8.onnx").run(None, {"image": x.numpy()})
    right = 100 * float((small.argmax(1) == data.test.labels.numpy()).mean())
    assert right == pytest.approx(accuracy)
    assert (tmp_path / "program" / "insn.bin").is_file()
    assert (tmp_path / "net.safetensors").stat().st_size > 1000
    assert "holds no weights" in one_line(gpw("export", keys["simulate"], "--to", "net.onnx"))
    again = gpw("export", "net.onnx", "data=digits", "--to", "again.onnx")  # an ONNX file itself
    assert again.code == 0, again.err
    (same,) = onnxruntime.InferenceSession("again.onnx").run(None, {"input": x.numpy()})
    assert np.abs(same - logits).max() < 1e-3


def test_a_run_of_a_sweep_is_exported_from_stored_weights(gpw, one_line, tmp_path) -> None:
    settings = ("bits=6", "target=vta_pynq", "seed=0,1", "finetune.quantized=false")
    assert gpw("sweep", *ONE, "scheme=gpw", *settings, "--name", "s").code == 0
    folder, run = tmp_path / "results" / "s", "seed=1"
    record = json.loads((folder / "points" / f"{run}.json").read_text())
    picked = gpw("pick", "s", "--json").json["export"].split()
    assert picked[:3] == ["gpw", "export", f"results/s/points/{picked[2].split('/')[-1]}"]
    source = f"results/s/points/{run}.json"
    assert "from the store" in (found := gpw("export", source, "--to", "own/")).err
    assert "done" not in found.err  # nothing runs
    key = record["stages"]["finetune"]["key"]
    (folder / "weights").mkdir()
    shutil.copy(
        tmp_path / ".gpw" / "store" / "finetune" / key / "model.safetensors",
        folder / "weights" / f"{run}.safetensors",
    )
    shutil.rmtree(tmp_path / ".gpw" / "store")
    assert gpw("pick", "s", "--json").json["export"].split()[2] == source  # of two seeds
    assert gpw("export", source, "--to", "kept/").code == 0
    for file in ("insn.bin", "dram.bin", "expected.bin", "manifest.json"):
        assert (tmp_path / "own" / file).read_bytes() == (tmp_path / "kept" / file).read_bytes()
    counted = gpw("simulate", "--checkpoint", str(folder / "weights" / f"{run}.safetensors"),
                  "data=digits", "bits=6", "target=vta_pynq", "--json").json  # fmt: skip
    for stage, name in (("simulate", "cycles"), ("fuse", "test_accuracy")):
        assert counted[stage]["metrics"][name] == record["stages"][stage]["metrics"][name]
    refused = one_line(gpw("export", source, "--to", "kept/", "sparsity=0.8"))
    assert "no effect" in refused
    (folder / "weights" / f"{run}.safetensors").unlink()
    refused = one_line(gpw("export", source, "--to", "again/"))
    assert refused.startswith(f"gpw: {source}: its weights are neither in the store")
    command = refused.split("again: ")[-1].split()
    assert command[:2] == ["gpw", "run"]
    assert {"data=digits", "bits=6", "scheme=gpw"} <= set(command)
    assert refused.endswith("seed=1")
    found = gpw("pick", "s").out
    assert "gpw simulate " in found
    assert "data=digits" in found


def test_a_dense_run_of_given_weights_needs_no_store(gpw, one_line, tmp_path) -> None:
    """Its weights are those that the configuration names, or that are shipped."""
    key = gpw("pretrain", "--json", *ONE).json["pretrain"]["key"]
    weights = tmp_path / "given.safetensors"
    shutil.copy(tmp_path / ".gpw" / "store" / "pretrain" / key / "model.safetensors", weights)
    given = ("data=digits", "scheme=dense", f"pretrain.source={weights}")
    assert gpw("sweep", *given, "--until", "pretrain", "--name", "d").code == 0
    shutil.rmtree(tmp_path / ".gpw" / "store")
    assert gpw("export", "results/d/points/run.json", "--to", "net.pt2").code == 0
    shutil.rmtree(tmp_path / ".gpw" / "store")
    weights.unlink()
    refused = one_line(gpw("export", "results/d/points/run.json", "--to", "net.pt2"))
    assert "neither in the store" in refused
    other = tmp_path / "results" / "d" / "points" / "other.json"
    shutil.copy(tmp_path / "results" / "d" / "points" / "run.json", other)
    assert "says nothing of" in one_line(gpw("export", str(other), "--to", "net.pt2"))


def test_channels_without_weights_are_not_exported(gpw, tmp_path) -> None:
    untrained = ("train=digits", "pretrain.train.epochs=0", "--json")
    ran = gpw("prune", "data=digits", "scheme=channel", "sparsity=0.5", *untrained)
    assert ran.code == 0, ran.err
    for file in ("net.safetensors", "net.pt2"):
        exported = gpw("export", ran.json["prune"]["key"], "--to", file)
        assert exported.code == 0
        assert "Warning" not in exported.err
    stored = load_file(tmp_path / "net.safetensors")
    assert stored["features_3_weight"].shape == (32, 16, 3, 3)  # of 64, 16
    assert stored["features_6_weight"].shape == (32, 32, 3, 3)
    program = torch.export.load(tmp_path / "net.pt2")
    assert program.state_dict["features_6_weight"].shape == (32, 32, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "net.tflite"], ".onnx with --int8"),
        (["--to", "net.pt2", "--int8"], "expected a file that ends in"),
        (["--to", "program", "--int8"], "always int8"),
        (["--to", "net.onnx"], "gpw export nothing: no such file"),
        (["--to", "nowhere/net.pt2"], "no folder nowhere"),
        (["--to", ".onnx"], "expected a file that ends in"),
    ],
)
def test_bad_exports_are_one_line(gpw, one_line, arguments, words) -> None:
    assert words in one_line(gpw("export", "nothing", *arguments))


def test_weights_alone_do_not_stand_for_a_network_trained_as_integers(tmp_path: Path) -> None:
    run = stored_run(
        Path(__file__).parents[1] / "results/quantized/points/scheme=dense,bits=4.json"
    )
    (tmp_path / "points").mkdir()
    with pytest.raises(UsageError, match="trained as integers"):
        replace(run, file=tmp_path / "points" / "a.json").ready([f"runtime.root={tmp_path}"])
