from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from gpw_cli.data.digits import load_digits_pictures
from gpw_cli.data.pictures import normalise
from gpw_cli.graph.dead import remove_dead
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.fold import fold
from gpw_cli.graph.module import GraphModule
from gpw_cli.graph.trace import trace
from gpw_cli.models.registry import build_model
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


def test_export_writes_every_format_and_they_agree(gpw, tmp_path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    ran = gpw("run", "--json", *ONE)
    keys = {stage: found["key"] for stage, found in ran.json.items()}
    accuracy = ran.json["fuse"]["metrics"]["test_accuracy"]
    for arguments in (["--to", "net.pt2"], ["--to", "net.safetensors"], ["--to", "net.onnx"],
                      ["--to", "net8.onnx", "--int8"], ["--to", "program"]):  # fmt: skip
        assert gpw("export", keys["finetune"], "data=digits", *arguments).code == 0
    data = load_digits_pictures(16, 1)
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
    assert right == pytest.approx(accuracy, abs=0.6)  # 2 of 359 images
    assert (tmp_path / "program" / "insn.bin").is_file()
    assert (tmp_path / "net.safetensors").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "net.tflite"], ".onnx with --int8"),
        (["--to", "net.pt2", "--int8"], "expected a file that ends in"),
        (["--to", "program", "--int8"], "always int8"),
        (["--to", "net.onnx"], "no such file"),
    ],
)
def test_bad_exports_are_one_line(gpw, one_line, arguments, words) -> None:
    assert words in one_line(gpw("export", "nothing", *arguments))
