"""finetune.shared: the layers keep 2^bits values each, which are trained (papers/002)."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Gpw, Ran
from networks import ResNetLike, randomise
from safetensors.torch import load_file
from torch import nn

from gpw_cli.config.compose import compose
from gpw_cli.config.grid import product
from gpw_cli.data.digits import load_digits_images
from gpw_cli.data.images import Images, Split
from gpw_cli.graph.codebook import share
from gpw_cli.graph.integer import IntConv
from gpw_cli.graph.integer_io import load
from gpw_cli.graph.ir import Conv, Graph
from gpw_cli.graph.module import GraphModule, parameter_name
from gpw_cli.graph.trace import trace
from gpw_cli.models.digits_cnn import DigitsCnn
from gpw_cli.quantization.quantize import prepare
from gpw_cli.quantization.shared import SharedNetwork
from gpw_cli.stages.pipeline import plan
from gpw_cli.training.evaluate import accuracy
from gpw_cli.training.loop import EpochRecord, FitOptions, fit

CPU = torch.device("cpu")
VALUES = ("bits=4", "epochs=1", "lr=0.01")
TINY = ("data=digits", "pretrain.train.epochs=1", "finetune.train.epochs=1")
DIGITS = compose(["data=digits"])
RECIPE = replace(DIGITS.finetune.train, epochs=1, lr=0.01, weight_decay=0.0)


def graph_of(model: nn.Module, images: Images | None = None) -> Graph:
    quantizer = compose([]).quantizer
    if images is None:
        return prepare(trace(model, (3, 32, 32)), quantizer)
    return prepare(trace(model, (1, 16, 16), images.mean, images.std), quantizer)


def layers(graph: Graph) -> dict[str, np.ndarray]:
    return {node.name: node.weight for node in graph.nodes if isinstance(node, Conv)}


def halved(model: nn.Module) -> nn.Module:
    """With the smaller half of each weight tensor at zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(parameter.abs() > parameter.abs().median())
    return model


@pytest.fixture(scope="module")
def digits() -> tuple[Images, Graph]:
    """512 training images and a network trained on them, half of its weights zero."""
    whole = load_digits_images(16, 1)
    few = Split(whole.train.images[:512], whole.train.labels[:512])
    images = replace(whole, train=few, test=few)
    torch.manual_seed(0)
    model = DigitsCnn(10, 1)
    recipe = replace(DIGITS.pretrain.train, epochs=4)
    fit(model, images, recipe, FitOptions("pretrain", 0, CPU))
    return images, graph_of(halved(model).eval(), images)


def test_a_value_gets_the_mean_gradient_of_all_weights_that_share_it() -> None:
    torch.manual_seed(0)
    shared = SharedNetwork(graph_of(halved(randomise(ResNetLike()))), bits=4)
    plain = GraphModule(shared.graph())
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 4
    for network in (shared, plain):
        F.cross_entropy(network(x), labels).backward()
    for node in (node for node in shared.graph().nodes if isinstance(node, Conv)):
        codes = shared.get_buffer(parameter_name(node, "codes")).long()
        weights = plain.get_parameter(parameter_name(node, "weight")).grad
        values = shared.get_parameter(parameter_name(node, "values")).grad
        assert weights is not None
        assert values is not None
        summed = torch.zeros(16).index_add(0, codes.flatten(), weights.flatten())
        sharing = codes.flatten().bincount(minlength=16).clamp(min=1)
        torch.testing.assert_close(values, (summed / sharing)[1:])
        assert codes.unique().numel() > 2


@pytest.mark.parametrize("bits", [4, 2])
def test_training_the_values(digits: tuple[Images, Graph], bits: int) -> None:
    images, graph = digits
    network = SharedNetwork(graph, bits)
    start = layers(network.graph())
    untrained = accuracy(network, images.train, images)
    fit(network, images, RECIPE, FitOptions("shared", 0, CPU))
    trained = accuracy(network, images.train, images)
    # with one thread 48.05 to 96.09 % and 18.75 to 58.79 %; threads and processors change the sums
    assert trained > untrained + 20
    for name, weight in layers(network.graph()).items():
        assert np.array_equal(weight == 0, layers(graph)[name] == 0)
        assert len(np.unique(weight[weight != 0])) <= (1 << bits) - 1
        # what shared a value still does, and the values have moved
        assert len(np.unique(np.stack([weight, start[name]]).reshape(2, -1), axis=1).T) <= 1 << bits
        assert (weight != start[name]).any()


def test_a_killed_run_resumes_to_the_same_bits(
    digits: tuple[Images, Graph], tmp_path: Path
) -> None:
    images, graph = digits
    recipe = replace(RECIPE, epochs=2, batch_size=256)

    def train(name: str, stop_after: int) -> SharedNetwork:
        def stop(record: EpochRecord) -> None:
            if record.epoch == stop_after:
                raise KeyboardInterrupt

        network = SharedNetwork(graph, 4)
        options, file = FitOptions("shared", 0, CPU), tmp_path / name
        with suppress(KeyboardInterrupt):
            fit(network, images, recipe, options, checkpoint=file, on_epoch=stop)
        return network

    whole = train("whole", 9).state_dict()
    train("broken", 1)
    resumed = train("broken", 9).state_dict()
    start = SharedNetwork(graph, 4).state_dict()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
        assert name.endswith("codes") or not torch.equal(value, start[name]), name


def test_eie_multiplies_the_values_that_were_trained(gpw: Gpw, tmp_path: Path) -> None:
    options = ("target=eie", "scheme=fine", "sparsity=0.9", "simulate.images=20", "--json")
    ran = gpw("run", *TINY, *options, *(f"finetune.shared.{v}" for v in VALUES))
    assert ran.code == 0, ran.err
    metrics = ran.json["finetune"]["metrics"]
    assert (metrics["epochs"], metrics["shared_epochs"], metrics["shared_bits"]) == (1, 1, 4)
    assert metrics["test_accuracy"] >= metrics["shared_untrained"] > 20
    store = tmp_path / ".gpw/store"
    folder = store / "finetune" / ran.json["finetune"]["key"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "metrics.jsonl",
        "model.safetensors",
        "network.json",
        "quantized.safetensors",
    ]
    masks = load_file(store / "prune" / ran.json["prune"]["key"] / "masks.safetensors")
    weights = load_file(folder / "quantized.safetensors")
    integers = load(store / "fuse" / ran.json["fuse"]["key"])
    for node in (node for node in integers.nodes if isinstance(node, IntConv)):
        weight = weights[f"{node.name}.weight"]
        assert weight[weight != 0].unique().numel() <= 15
        if f"{node.name}.weight" in masks:
            assert not weight.flatten()[~masks[f"{node.name}.weight"].flatten()].any()
        assert np.array_equal(share(node.weight).decode(), node.weight)  # k-means finds those again


def test_keys_and_stages() -> None:
    def keys(*overrides: str) -> dict[str, str]:
        return {step.stage.name: step.key for step in plan(compose(overrides))}

    plain, shared = keys("scheme=fine"), keys("scheme=fine", "finetune.shared.bits=4")
    assert keys("scheme=fine", "finetune.shared.lr=0.5") == plain
    assert shared["prune"] == plain["prune"]
    assert shared["finetune"] != plain["finetune"]
    dense = ("scheme=dense", "finetune.shared.bits=4")
    assert set(keys(*dense)) == {"pretrain", "finetune", "quantize", "fuse", "simulate"}
    assert keys(*dense, "quantizer.equalise=false")["finetune"] != keys(*dense)["finetune"]
    axes = {"scheme": ["dense"], "finetune.shared.bits": ["0", "4"], "pruning.sparsity": ["0", "1"]}
    assert product(axes) == [
        {"scheme": "dense"},
        {"scheme": "dense", "finetune.shared.bits": "4"},
    ]


def test_the_dense_network_trains_its_values_only(gpw: Gpw, tmp_path: Path) -> None:
    ran = gpw(
        "finetune", *TINY, "scheme=dense", "finetune.shared.bits=2", "finetune.shared.epochs=1",
        "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    rows = next(tmp_path.glob(".gpw/store/finetune/*/metrics.jsonl")).read_text().splitlines()
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("finetune.shared.bits=1", "must be between 2 and 8"),
        ("finetune.shared.epochs=3", "finetune.shared.bits=4"),
        ("finetune.quantized=true", "finetune.quantized=false"),
        ("quantizer.per_channel=true", "quantizer.per_channel=false"),
        ("finetune.shared.lr=nan", "finetune.shared.lr=nan must be"),
    ],
)
def test_bad_values_are_refused(
    gpw: Gpw, one_line: Callable[[Ran], str], override: str, named: str
) -> None:
    bits = () if "bits" in override or "epochs" in override else ("finetune.shared.bits=4",)
    assert named in one_line(gpw("run", "data=digits", *bits, override))
