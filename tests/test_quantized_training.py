"""finetune.quantized: the network trains as the integers that it becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Gpw, Ran
from networks import MeanNet, ResNetLike, VggLike, randomise
from safetensors.torch import load_file
from torch import Tensor, nn

from gpw_cli.config.compose import compose
from gpw_cli.config.grid import product
from gpw_cli.config.quantizer import QuantizerConfig
from gpw_cli.config.recipe import Padding, Precision, Recipe
from gpw_cli.data.digits import load_digits_images
from gpw_cli.data.images import Images, normalise
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.fold import fold
from gpw_cli.graph.trace import trace
from gpw_cli.models.digits_cnn import DigitsCnn
from gpw_cli.quantization.quantize import prepare
from gpw_cli.quantization.ranges import calibrate
from gpw_cli.quantization.reference import quantize_input, run
from gpw_cli.quantization.trained import QuantizedNetwork
from gpw_cli.stages.pipeline import plan
from gpw_cli.stages.quantized import put_into
from gpw_cli.training.loop import EpochRecord, FitOptions, fit

CPU = torch.device("cpu")


class Moves(nn.Module):
    """Slices, joined channels, groups, repeated pixels, a partial window."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = F.interpolate(torch.cat([x[:, 2:6], x], 1), scale_factor=2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 3, 2, ceil_mode=True)
        return self.fc(x.mean([2, 3]))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "residual": (ResNetLike, 32),
    "vgg": (VggLike, 16),
    "mean": (MeanNet, 12),
    "moves": (Moves, 8),
}


def network(
    build: Callable[[], nn.Module], x: Tensor, cfg: QuantizerConfig
) -> tuple[QuantizedNetwork, nn.Module]:
    torch.manual_seed(0)
    model = randomise(build())
    channels, height, width = x.shape[1:]
    graph = prepare(trace(model, (channels, height, width)), cfg)
    return QuantizedNetwork(graph, calibrate(graph, [x], cfg), cfg), model


def digits(count: int) -> tuple[Images, Tensor]:
    images = load_digits_images(16, 1)
    return images, normalise(images.test.images[:count], images.mean, images.std)


@pytest.mark.parametrize(
    ("preset", "bits", "autocast"),
    [
        ("best", 8, False),
        ("best", 4, False),
        ("best", 4, True),
        ("profile", 8, True),
        ("tvm_single", 8, False),
    ],
)
def test_logits_on_digits_are_those_of_the_integer_reference(
    preset: str, bits: int, autocast: bool
) -> None:
    _, x = digits(120)
    cfg = compose([f"quantizer={preset}", f"bits={bits}"]).quantizer
    trained, _ = network(lambda: DigitsCnn(10, 1), x[:64], cfg)
    integers = trained.integers()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = trained(x) / integers.scales[integers.output]
    assert np.array_equal(logits.numpy(), run(integers, quantize_input(integers, x)))
    assert len(np.unique(logits)) > 2


@pytest.mark.parametrize("family", NETWORKS)
@pytest.mark.parametrize(
    "knobs",
    [
        {"weight_bits": 4, "act_bits": 4},
        {"per_channel": True, "bias_bits": 8},
        {"fusion": "none", "residual": "shift", "clip_low": -128, "logit_bits": 8},
        {"fusion": "relu", "rounding": "truncate", "logit_bits": 16, "bias_correction": False},
        {"wrap_last_add": True, "scale_mode": "global"},
    ],
)
def test_every_knob_gives_the_reference_s_logits(family: str, knobs: dict[str, object]) -> None:
    build, size = NETWORKS[family]
    cfg = compose([f"quantizer.{name}={value}" for name, value in knobs.items()]).quantizer
    x = torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(0))
    trained, _ = network(build, x, cfg)
    integers = trained.integers()
    with torch.no_grad():
        logits = trained(x) / integers.scales[integers.output]
    assert np.array_equal(logits.numpy(), run(integers, quantize_input(integers, x)))


@pytest.mark.parametrize("fast", [False, True])
def test_gradients_are_nearly_those_of_the_float_network(fast: bool) -> None:
    x = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    cfg = compose([]).quantizer  # 8 bits: little is rounded
    trained, model = network(ResNetLike, x, cfg)
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        out = trained(x)
    out.square().mean().backward()
    model(x).square().mean().backward()
    ours = trained.get_parameter("fc/weight").grad
    theirs = model.get_parameter("fc.weight").grad
    assert ours is not None
    assert theirs is not None
    cosine = F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)
    assert cosine > 0.99


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    images, x = digits(64)
    recipe = Recipe(
        epochs=2,
        batch_size=256,
        lr=0.002,
        precision=Precision.fp32,
        crop=1,
        padding=Padding.zero,
        flip=False,
    )
    cfg = compose(["bits=4"]).quantizer

    def train(checkpoint: Path, stop_after: int) -> tuple[QuantizedNetwork, list[EpochRecord]]:
        def stop(record: EpochRecord) -> None:
            if record.epoch == stop_after:
                raise KeyboardInterrupt

        trained, _ = network(lambda: DigitsCnn(10, 1), x, cfg)
        options = FitOptions("finetune", 0, CPU)
        try:
            return trained, fit(
                trained, images, recipe, options, checkpoint=checkpoint, on_epoch=stop
            )
        except KeyboardInterrupt:
            return trained, []

    whole, history = train(tmp_path / "whole", 9)
    train(tmp_path / "broken", 1)
    resumed, again = train(tmp_path / "broken", 9)
    assert [replace(row, seconds=0.0) for row in again] == [
        replace(row, seconds=0.0) for row in history
    ]
    start, _ = network(lambda: DigitsCnn(10, 1), x, cfg)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
        assert not torch.equal(value, start.state_dict()[name]) or not value.any()
    assert history[1].loss < history[0].loss


@pytest.mark.parametrize("family", NETWORKS)
def test_folded_weights_go_back_into_the_network(family: str) -> None:
    build, size = NETWORKS[family]
    x = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    trained, model = network(build, x, compose([]).quantizer)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.25)
    put_into(model, trained.graph(), trace(model, (3, size, size)))
    with torch.no_grad():
        torch.testing.assert_close(model(x), run_float(trained.graph(), x), rtol=1e-4, atol=1e-4)
    assert len(fold(trace(model, (3, size, size))).nodes) == len(trained.graph().nodes)


def finetuned(gpw: Gpw, *overrides: str) -> dict[str, dict[str, object]]:
    ran = gpw(
        "run",
        "data=digits",
        "bits=4",
        "finetune.quantized=true",
        "finetune.train.lr=0.001",
        "pretrain.train.epochs=1",
        "finetune.train.epochs=1",
        "simulate.images=8",
        "--json",
        *overrides,
    )
    assert ran.code == 0, ran.err
    stages: dict[str, dict[str, object]] = ran.json
    return stages


def test_what_is_evaluated_in_training_is_what_fuse_makes(gpw: Gpw) -> None:
    stages = finetuned(gpw, "scheme=block", "sparsity=0.5")
    metrics = {name: stage["metrics"] for name, stage in stages.items() if "metrics" in stage}
    accuracy = {name: own["test_accuracy"] for name, own in metrics.items()}  # type: ignore[index]
    assert accuracy["finetune"] == accuracy["fuse"]
    folder = Path(".gpw/store/finetune") / str(stages["finetune"]["key"])
    arrays = load_file(folder / "quantized.safetensors")
    network_ = load_file(folder / "model.safetensors")
    assert torch.equal(arrays["features.3.weight"], network_["features.3.weight"])
    masks = load_file(f".gpw/store/prune/{stages['prune']['key']}/masks.safetensors")
    for name in arrays.keys() & masks.keys():
        assert not arrays[name][~masks[name]].any()


def test_keys_and_stages() -> None:
    def keys(*overrides: str) -> dict[str, str]:
        return {step.stage.name: step.key for step in plan(compose(overrides))}

    plain, trained = keys("scheme=gpw"), keys("scheme=gpw", "finetune.quantized=true")
    assert plain["prune"] == trained["prune"]
    assert plain["finetune"] != trained["finetune"]
    dense = ("scheme=dense", "finetune.quantized=true")
    assert set(keys("scheme=dense")) == {"pretrain", "quantize", "fuse", "simulate"}
    assert "finetune" in keys(*dense)
    assert keys(*dense, "bits=4")["finetune"] != keys(*dense)["finetune"]
    axes = {"scheme": ["dense"], "finetune.train.epochs": ["1", "2"]}
    assert len(product(axes)) == 1
    assert len(product(axes, {"finetune.quantized": "True"})) == 2
    assert len(product({**axes, "finetune.quantized": ["false", "true"]})) == 3


def test_multipliers_are_refused(gpw: Gpw, one_line: Callable[[Ran], str]) -> None:
    line = one_line(gpw("run", "data=digits", "quantizer=sdp", "finetune.quantized=true"))
    assert "multiplier_bits=16" in line
    assert "quantizer=best" in line


HOMELESS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, kind):
        super().__init__()
        self.first, self.a = nn.Conv2d(1, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1)
        self.b = {
            "pool": lambda: nn.AvgPool2d(3, 1, 1),
            "tied": lambda: nn.Conv2d(16, 16, 3, 1, 1),
            "dilated": lambda: nn.Conv2d(16, 16, 3, 1, 2, 2),
        }[kind]()
        if kind == "tied":
            self.b.weight = self.a.weight
        self.last = nn.Linear(16, num_classes)

    def forward(self, x):
        x = torch.relu(self.b(torch.relu(self.a(torch.relu(self.first(x)))))) + 1.0
        return self.last(x.mean((2, 3)))
"""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pool", "b (AvgPool2d) becomes a convolution"),
        ("tied", "b shares its weight"),
        ("dilated", "b is dilated"),
    ],
)
def test_weights_that_no_layer_can_hold_are_refused_before_training(
    gpw: Gpw, tmp_path: Path, kind: str, words: str
) -> None:
    (tmp_path / "net.py").write_text(HOMELESS)
    options = ("train=digits", "pretrain.train.epochs=0", "finetune.quantized=true")
    own = ("model=./net.py:Net", f"model.args={{kind:{kind}}}", "--json")
    ran = gpw("finetune", "data=digits", *own, *options)
    last = ran.err.strip().splitlines()[-1]
    assert ran.code == 2, ran.err
    assert f"gpw: finetune.quantized=true: {words}" in last
