"""Networks of the user's own: code in a file or module, an ONNX file, torchvision's weights."""

from __future__ import annotations

import urllib.error
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, Gpw
from networks import ForeignNet, ResNetLike, VggLike, randomise
from torch import nn

from gpw_cli.config.compose import compose
from gpw_cli.errors import GpwError, UnsupportedError, UsageError
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.fold import fold
from gpw_cli.graph.trace import trace
from gpw_cli.models.checkpoint import import_checkpoint
from gpw_cli.models.onnx_file import onnx_identity, onnx_input
from gpw_cli.models.own import build_own
from gpw_cli.models.registry import build_model
from gpw_cli.models.torchvision_weights import require_weights, weights_path
from gpw_cli.stages.pipeline import plan

CODE = """
import torch
from torch import nn
from beside import width

class MyNet(nn.Module):
    def __init__(self, num_classes, in_channels, depth=1):
        super().__init__()
        layers, channels = [], in_channels
        for _ in range(depth + 1):
            layers += [nn.Conv2d(channels, width(), 3, 2, 1), nn.ReLU6()]
            channels = width()
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x):
        return self.head(self.features(x).mean([2, 3]))

def wrong():
    return 3

def broken(classes):
    raise ValueError("no such luck")

CODES = 3

def leave():
    raise SystemExit(3)

def needs(depth, classes):
    return MyNet(classes, 1, depth)

class Shared(MyNet):
    # two layers with one weight, one of them used twice
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels, 0)
        self.a, self.b = nn.Conv2d(24, 24, 3, 1, 1), nn.Conv2d(24, 24, 3, 1, 1)
        self.b.weight = self.a.weight

    def forward(self, x):
        x = self.features(x)
        for layer in (self.a, self.b, self.a):
            x = torch.relu(layer(x))
        return self.head(x.mean([2, 3]))

class Double(MyNet):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.double()

class Answers(MyNet):
    def forward(self, x):
        print("some talk")
        return {"logits": super().forward(x)}

class Auxiliary(MyNet):
    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits

class Chooses(MyNet):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)

class Late(MyNet):
    def forward(self, x):
        return super().forward(x) if len(x) < 5 else {}["late"]
"""
SHORT = (*TINY[:1], "pretrain.train.epochs=1", "finetune.train.epochs=1")


@pytest.fixture
def mynet(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("def width():\n    return 24\n")
    (tmp_path / "mynet.py").write_text(CODE)
    return tmp_path / "mynet.py"


def key(*overrides: str) -> str:
    return plan(compose(["data=digits", *overrides]), "pretrain")[0].key


def test_a_file_is_known_by_its_content(
    mynet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = key("model=./mynet.py:MyNet")
    assert key(f"model={mynet}:MyNet") == before
    assert key("model=mynet:MyNet") != before  # another way to find it
    assert key("model=./mynet.py:MyNet", "model.args={depth:2}") != before
    mynet.write_text(CODE + "\n# changed\n")
    assert key("model=./mynet.py:MyNet") != before
    assert key("model=torchvision.models:resnet18") != key("model=torchvision.models:resnet34")


def test_code_gets_the_classes_and_channels_that_it_takes(mynet: Path) -> None:
    own = build_own(f"{mynet}:MyNet", {"depth": 2}, 7, 1)
    assert own(torch.zeros(2, 1, 16, 16)).shape == (2, 7)
    assert sum(isinstance(module, nn.Conv2d) for module in own.modules()) == 3
    vision = build_own("torchvision.models:resnet18", {}, 5, 3)
    assert isinstance(vision, nn.Module)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("./none.py:MyNet", "no file ./none.py"),
        ("./mynet.py:MyNett", "mynet.py has no MyNett; did you mean MyNet"),
        ("./mynet.py:CODES", "no class or function"),
        ("./mynet.py:leave", r"SystemExit: 3 \(mynet.py, line 28\)"),
        ("./mynet.py:needs", r"missing a required argument: 'depth'.* model.args="),
        ("./mynet.py:wrong", "makes a int, not a torch.nn.Module"),
        ("./mynet.py:broken", r"ValueError: no such luck \(mynet.py, line 23\)"),
        ("./mynet.py:", "no name of a class"),
        ("no.such.module:Net", "no importable module no.such.module"),
    ],
)
def test_what_is_wrong_with_the_code_is_one_line(
    mynet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words) as caught:
        build_own(name, {}, 10, 1)
    assert "\n" not in str(caught.value)


def test_a_network_is_one_file_and_one_yaml(gpw: Gpw, mynet: Path, tmp_path: Path) -> None:
    options = tmp_path / "own/model"
    options.mkdir(parents=True)
    (options / "mine.yaml").write_text("name: ./mynet.py:MyNet\nargs: {depth: 2}\n")
    command = ("cycles", "data=digits", "model=mine", "scheme=dense", "--config-dir", "own")
    ran = gpw(*command, "--json")
    assert ran.code == 0, ran.err
    names = [layer["name"] for layer in ran.json["layers"]]
    assert sum(name.startswith("features.") for name in names) == 3  # depth + 1 convolutions


def test_own_code_runs_through_the_pipeline_and_in_worker_processes(
    gpw: Gpw, mynet: Path, tmp_path: Path
) -> None:
    ran = gpw("run", *SHORT, "model=./mynet.py:MyNet", "sparsity=0.5", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["simulate"]["metrics"]["logits_equal_reference"]
    assert ran.json["prune"]["metrics"]["groups_removed"] > 0
    swept = gpw(
        "sweep", *SHORT, "model=./mynet.py:MyNet", "scheme=gpw", "sparsity=0.5,0.7", "--jobs", "2"
    )
    assert swept.code == 0, swept.err
    assert list(tmp_path.glob("results/mynet.py-MyNet-digits-*/results.csv"))
    # a checkpoint never says what code to run
    refused = gpw("simulate", "data=digits", "--checkpoint", ran.json["pretrain"]["key"])
    assert refused.code == 2
    assert "never names code" in refused.err


def test_layers_may_share_a_weight(gpw: Gpw, mynet: Path) -> None:
    ran = gpw("run", *SHORT, "model=./mynet.py:Shared", "sparsity=0.5", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["simulate"]["metrics"]["logits_equal_reference"]
    # all three convolutions are pruned, in the estimate too
    estimated = gpw("cycles", "data=digits", "model=./mynet.py:Shared", "sparsity=0.5", "--json")
    layers = {layer["name"]: layer for layer in estimated.json["layers"]}
    for name in ("a", "b", "a_1"):
        assert layers[name]["pruned_dram_bytes"] < layers[name]["dram_bytes"], name


def test_a_network_of_doubles_is_trained_as_float32(mynet: Path) -> None:
    own = build_own(f"{mynet}:Double", {}, 10, 1)
    assert own(torch.zeros(1, 1, 8, 8)).dtype is torch.float32


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Answers", "gives dict for 1 image,"),
        ("Auxiliary", "gives tuple for 2 images in training"),
        ("Chooses", "decides by the values of the image"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_training(
    gpw: Gpw, mynet: Path, name: str, words: str
) -> None:
    ran = gpw("run", *SHORT, f"model=./mynet.py:{name}", "--dry-run", "--json")
    assert ran.code == 2
    assert words in ran.err
    assert "talk" not in ran.out
    assert ran.err.replace("some talk\n", "").count("\n") == 1


def test_an_error_of_own_code_at_work_is_one_line(gpw: Gpw, mynet: Path) -> None:
    ran = gpw("run", *SHORT, "model=./mynet.py:Late")
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith("gpw: model=./mynet.py:Late: KeyError: 'late' (my")


def test_settings_that_have_no_effect_on_own_code_are_refused(mynet: Path) -> None:
    with pytest.raises(UsageError, match="only CIFAR ResNets take it"):
        compose([f"model={mynet}:MyNet", "model.shortcut=B"])
    with pytest.raises(UsageError, match="which class or function"):
        compose([f"model={mynet}"])


def test_a_network_with_another_number_of_outputs_is_refused(gpw: Gpw, mynet: Path) -> None:
    ran = gpw("pretrain", *SHORT, "model=./mynet.py:MyNet", "model.args={num_classes:3}")
    assert ran.code == 2
    assert "must give one tensor [1, 10]" in ran.err


onnx = pytest.importorskip("onnx")


def exported(model: nn.Module, file: Path, size: int, channels: int = 3) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is deprecated
        torch.onnx.export(model, (torch.zeros(1, channels, size, size),), str(file), dynamo=False)
    return file


TORCHVISION = ("resnet18", "squeezenet1_1", "mobilenet_v2", "shufflenet_v2_x0_5", "regnet_x_400mf")


@pytest.mark.parametrize("name", [*TORCHVISION, "resnet20", "foreign", "vgg", "bottleneck"])
def test_onnx_gives_what_onnxruntime_gives(tmp_path: Path, name: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    small = {"foreign": ForeignNet, "vgg": VggLike, "bottleneck": lambda: ResNetLike(True)}
    torch.manual_seed(0)
    size = 16 if name == "vgg" else 32
    model = randomise(small[name]() if name in small else build_model(name, 10, 3, "A"))
    file = exported(model, tmp_path / "net.onnx", size)
    x = torch.randn(2, 3, size, size)
    session = runtime.InferenceSession(str(file))
    given = session.get_inputs()[0].name
    expected = np.concatenate([session.run(None, {given: one[None].numpy()})[0] for one in x])
    network = build_model(str(file), 10, 3, "A")
    with torch.no_grad():
        np.testing.assert_allclose(network(x).numpy(), expected, atol=1e-4)
    graph = fold(trace(network, (3, size, size)))
    np.testing.assert_allclose(run_float(graph, x).numpy(), expected, atol=1e-4)


def test_an_onnx_file_is_pruned_trained_and_simulated(gpw: Gpw, tmp_path: Path) -> None:
    exported(build_model("digits_cnn", 10, 1, "A").eval(), tmp_path / "net.onnx", 16, 1)
    ran = gpw("run", SHORT[0], SHORT[2], "model=net.onnx", "sparsity=0.5", "--json")
    assert ran.code == 0, ran.err
    metrics = {stage: entry["metrics"] for stage, entry in ran.json.items()}
    assert metrics["pretrain"]["source"] == "net.onnx"
    assert metrics["finetune"]["test_accuracy"] > metrics["pretrain"]["test_accuracy"]
    assert metrics["simulate"]["logits_equal_reference"]


def test_onnx_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="no valid ONNX model"):
        compose_input(tmp_path / "bad.onnx")
    with pytest.raises(UsageError, match="no such file"):
        compose_input(tmp_path / "none.onnx")
    quantized = one_node("QuantizeLinear", ["x", "scale"], tmp_path, [("scale", [1.0])])
    with pytest.raises(UnsupportedError, match="is quantized"):
        build_model(str(quantized), 10, 3, "A")
    odd = one_node("Mish", ["x"], tmp_path, [])
    with pytest.raises(UnsupportedError, match="not supported: Mish"):
        build_model(str(odd), 10, 3, "A")


def test_a_process_notices_another_onnx_file_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written again, and of the same relative name in another folder."""
    found = []
    for folder, size in (("a", 16), ("a", 8), ("b", 16), ("b", 16)):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        network = nn.Sequential(nn.Flatten(), nn.Linear(size * size, 10)).eval()
        exported(network, Path("net.onnx"), size, 1)
        found.append((onnx_identity("net.onnx")["sha256"], onnx_input("net.onnx")))
    assert [shape for _, shape in found] == [(1, 16), (1, 8), (1, 16), (1, 16)]
    assert len({content for content, _ in found}) == 4


def test_weights_beside_an_onnx_file_are_part_of_the_key(tmp_path: Path) -> None:
    # torch.onnx.export writes net.onnx and net.onnx.data
    keys = []
    for number, scale in enumerate((1.0, 1.0, 2.0)):
        torch.manual_seed(0)
        model = build_model("digits_cnn", 10, 1, "A").eval()
        with torch.no_grad():
            next(model.parameters()).mul_(scale)
        folder = tmp_path / str(number)
        folder.mkdir()
        whole = onnx.load(str(exported(model, folder / "whole.onnx", 16, 1)))
        one_file = {"all_tensors_to_one_file": True, "size_threshold": 0}
        named = {"save_as_external_data": True, "location": "net.onnx.data"}
        onnx.save_model(whole, str(folder / "net.onnx"), **named, **one_file)
        keys.append(key(f"model={folder / 'net.onnx'}", "data=digits"))
    assert keys[0] == keys[1] != keys[2]
    assert (tmp_path / "0/net.onnx").read_bytes() == (tmp_path / "2/net.onnx").read_bytes()


def test_an_onnx_file_is_no_source_of_weights_for_another_network(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"write model=net\.onnx"):
        key("model=digits_cnn", "data=digits", "pretrain.source=net.onnx")


def compose_input(file: Path) -> None:
    plan(compose([f"model={file}", "data=digits"]))


def one_node(kind: str, inputs: list[str], folder: Path, stored: list[tuple[str, list[float]]]):  # type: ignore[no-untyped-def]
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    out = onnx.TensorProto.UINT8 if kind.startswith("Quantize") else float32
    shape = [1, 3, 4, 4]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, ["y"])],
        "g",
        [helper.make_tensor_value_info("x", float32, shape)],
        [helper.make_tensor_value_info("y", out, shape)],
        [helper.make_tensor(name, float32, [], values) for name, values in stored],
    )
    file = folder / f"{kind}.onnx"
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(file))
    return file


def test_torchvision_weights_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = weights_path(tmp_path, "squeezenet1_1", "IMAGENET1K_V1")
    assert file == tmp_path / "weights" / "squeezenet1_1-IMAGENET1K_V1.pth"

    def unreachable(*arguments: object, **options: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(UsageError, match="no route to host") as caught:
        require_weights(file, "squeezenet1_1", "IMAGENET1K_V1")
    assert str(file) in str(caught.value)
    assert "squeezenet1_1-b8a52dc0.pth" in str(caught.value)
    assert "downloads https://" in capsys.readouterr().err
    assert not require_weights(file, "squeezenet1_1", "IMAGENET1K_V1", download=False)
    assert not capsys.readouterr().err
    with pytest.raises(UsageError, match=r"for squeezenet1_1: IMAGENET1K_V1$"):
        require_weights(file, "squeezenet1_1", "IMAGENET1K_V7")
    with pytest.raises(UsageError, match="has no resnet20"):
        weights_path(tmp_path, "resnet20", "IMAGENET1K_V1")
    file.parent.mkdir(exist_ok=True)
    source = build_model("squeezenet1_1", 1000, 3, "A")
    torch.save(source.state_dict(), file)
    require_weights(file, "squeezenet1_1", "IMAGENET1K_V1")
    named = [f"runtime.root={tmp_path}", "pretrain.source=IMAGENET1K_V1"]
    assert key("model=squeezenet1_1", *named) != key("model=squeezenet1_1")
    target = build_model("squeezenet1_1", 1000, 3, "A")
    import_checkpoint(file, target)
    assert torch.equal(target.features[0].weight, source.features[0].weight)  # type: ignore[index,union-attr]
    with pytest.raises(GpwError, match=r"classifier\.1\.weight is"):
        import_checkpoint(file, build_model("squeezenet1_1", 10, 3, "A"))


def test_older_names_of_densenet_and_auxiliary_classifiers(tmp_path: Path) -> None:
    model = build_model("densenet121", 10, 3, "A")
    old = {
        name.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): tensor
        for name, tensor in model.state_dict().items()
    }
    torch.save(old | {"aux1.fc.weight": torch.zeros(1)}, tmp_path / "old.pth")
    target = build_model("densenet121", 10, 3, "A")
    import_checkpoint(tmp_path / "old.pth", target)
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in target.state_dict().items())
