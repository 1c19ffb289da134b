"""Dead code: taken out of the float graph exactly, masked with its channel, skipped in training."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Gpw
from float_graphs import random_graph, whole_images
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ResNetLike, VggLike, randomise
from safetensors.torch import load_file
from torch import Tensor, nn

from gpw_cli.config.compose import compose
from gpw_cli.graph.dead import remove_dead, simplify
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.fold import fold
from gpw_cli.graph.ir import Conv, Graph, Input, ReLU, verify
from gpw_cli.graph.trace import trace
from gpw_cli.models.cifar_resnet import CifarResNet, cifar_resnet
from gpw_cli.pruning.masks import apply_masks
from gpw_cli.pruning.norms import shift_masks
from gpw_cli.quantization.quantize import prepare, quantize_graph
from gpw_cli.quantization.ranges import calibrate
from gpw_cli.quantization.reference import quantize_input, run
from gpw_cli.stages.pipeline import plan
from gpw_cli.sweep.plan import Request, plan_sweep
from gpw_cli.targets.registry import npu_of
from gpw_cli.training.dead import skip_dead

IMAGE_SHAPE = (3, 16, 16)
RESULTS = Path(__file__).parents[1] / "results"


def without(model: nn.Module, gone: Iterable[str]) -> dict[str, Tensor]:
    """Masks that take all weights of the convolutions ``gone``, with their shifts; applied."""
    own = dict(model.named_parameters())
    masks = {f"{n}.weight": torch.zeros_like(own[f"{n}.weight"], dtype=torch.bool) for n in gone}
    masks |= shift_masks(model, masks, IMAGE_SHAPE)
    apply_masks(model, masks)
    return masks


def resnet(depth: int = 20) -> CifarResNet:
    torch.manual_seed(0)
    model = randomise(cifar_resnet(depth, 10))
    assert isinstance(model, CifarResNet)
    return model


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10))
def test_logits_of_random_graphs_stay_to_the_bit(seed: int, length: int) -> None:
    graph = random_graph(seed, length)
    x = whole_images(graph)
    left = simplify(graph)
    assert torch.equal(run_float(left.graph, x), run_float(graph, x))
    assert simplify(left.graph).graph is left.graph
    assert set(left.same.values()) <= {node.name for node in left.graph.nodes}


def test_random_graphs_lose_nodes_of_every_kind() -> None:
    graphs = [random_graph(seed) for seed in range(200)]
    lost = {type(n).__name__ for g in graphs for n in g.nodes} & {
        type(g.node(name)).__name__
        for g in graphs
        for name in {n.name for n in g.nodes} - {n.name for n in remove_dead(g).nodes}
    }
    assert lost == {"Conv", "ReLU", "Add", "MaxPool", "AvgPool", "Pad"}


def test_a_live_network_comes_back_as_it_is() -> None:
    graph = fold(trace(resnet(), IMAGE_SHAPE))
    assert remove_dead(graph) is graph


def test_a_block_without_a_branch_is_its_shortcut() -> None:
    model = resnet()
    without(model, ["layer1.1.conv2", "layer2.0.conv2", "layer3.2.conv1", "layer3.2.conv2"])
    graph = fold(trace(model, IMAGE_SHAPE))
    left = simplify(graph)
    names = {node.name for node in left.graph.nodes}
    assert not any(name.startswith(("layer1.1", "layer3.2")) for name in names)
    assert {name for name in names if name.startswith("layer2.0")} == {"layer2.0.shortcut"}
    assert left.same["layer1.1.relu2"] == "layer1.0.relu2"
    assert "layer1.1.conv1" not in left.same
    x = torch.randn(4, *IMAGE_SHAPE)
    assert torch.equal(run_float(left.graph, x), run_float(graph, x))


def test_tiles_over_a_channel_that_is_zero_lose_their_weights() -> None:
    model = resnet()
    masks = {"layer1.0.conv1.weight": torch.ones(16, 16, 3, 3, dtype=torch.bool)}
    masks["layer1.0.conv1.weight"][4] = False
    apply_masks(model, masks | shift_masks(model, masks, IMAGE_SHAPE))
    conv = remove_dead(fold(trace(model, IMAGE_SHAPE))).node("layer1.0.conv2")
    assert isinstance(conv, Conv)
    assert not conv.weight[:, 4].any()
    assert (np.delete(conv.weight, 4, 1) != 0).all()


def chain(padding: int, kernel: int, first: float) -> Graph:
    """input -> conv with channel 0 constant ``first`` -> ReLU -> conv."""
    weight = np.ones((2, 1, 1, 1))
    weight[0] = 0.0
    size = 4 + 2 * padding - kernel + 1
    second = np.arange(1.0, 2 * kernel * kernel + 1).reshape(1, 2, kernel, kernel)
    return verify(
        Graph(
            (
                Input("input", (1, 4, 4), (0.0,), (1.0,)),
                Conv("a", "input", weight, np.array([first, 0.0]), (1, 1), (0, 0), (2, 4, 4)),
                ReLU("r", "a", (2, 4, 4)),
                Conv("b", "r", second, np.ones(1), (1, 1), (padding,) * 2, (1, size, size)),
            ),
            "b",
        )
    )


@pytest.mark.parametrize(
    ("padding", "kernel", "first", "bias", "weights"),
    [
        (0, 3, 2.0, 1 + 2 * 45.0, 9),  # no border: the constant moves into the bias
        (0, 1, 2.0, 1 + 2 * 1.0, 1),
        (1, 3, 2.0, 1.0, 18),  # pixels at the border see fewer constants
        (1, 3, -2.0, 1.0, 9),  # zero after the ReLU
    ],
)
def test_a_constant_moves_into_the_bias_where_that_is_exact(
    padding: int, kernel: int, first: float, bias: float, weights: int
) -> None:
    graph = chain(padding, kernel, first)
    left = remove_dead(graph)
    conv = left.node("b")
    assert isinstance(conv, Conv)
    assert (conv.bias[0], np.count_nonzero(conv.weight)) == (bias, weights)
    x = whole_images(graph)
    assert torch.equal(run_float(left, x), run_float(graph, x))


def test_a_removed_block_costs_no_cycle() -> None:
    def cycles(model: nn.Module) -> tuple[int, list[str]]:
        cfg = compose([]).quantizer
        graph = prepare(trace(model, IMAGE_SHAPE), cfg)
        x = torch.randn(16, *IMAGE_SHAPE, generator=torch.Generator().manual_seed(0))
        integers = quantize_graph(graph, calibrate(graph, [x], cfg), cfg, fused=True)
        compiled = npu_of(compose([]).target).compile(integers)
        codes = quantize_input(integers, x[:2])
        assert np.array_equal(compiled.simulator()(codes), run(integers, codes))
        time = compiled.time()
        return time.cycles, [layer.name for layer in time.layers]

    gone = ("layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1")
    whole = resnet()
    without(whole, [f"{name}.conv2" for name in gone])
    small = copy.deepcopy(whole)
    for name in gone:
        stage, block = name.split(".")
        small.get_submodule(stage)[int(block)] = nn.Identity()
    removed, names = cycles(whole)
    built, _ = cycles(small)
    assert removed == built
    assert not any(name.startswith(gone) for name in names)


def test_shifts_go_with_whole_channels_only() -> None:
    model = resnet()
    masks = {
        "layer1.0.conv1.weight": torch.ones(16, 16, 3, 3, dtype=torch.bool),
        "layer2.0.conv2.weight": torch.ones(32, 32, 3, 3, dtype=torch.bool),
        "linear.weight": torch.zeros(10, 64, dtype=torch.bool),
    }
    masks["layer1.0.conv1.weight"][:, 0] = False  # an input channel
    masks["layer2.0.conv2.weight"][[3, 31]] = False
    found = shift_masks(model, masks, IMAGE_SHAPE)
    assert set(found) == {"layer2.0.bn2.weight", "layer2.0.bn2.bias"}  # no class loses its bias
    assert [torch.nonzero(~mask).flatten().tolist() for mask in found.values()] == [[3, 31]] * 2
    assert not model.training


def test_a_layer_without_a_batch_norm_loses_its_bias() -> None:
    model = VggLike(norm=False)
    masks = {"features.3.weight": torch.zeros(16, 8, 3, 3, dtype=torch.bool)}
    found = shift_masks(model, masks, IMAGE_SHAPE)
    assert list(found) == ["features.3.bias"]
    assert not found["features.3.bias"].any()


def trained_step(model: nn.Module, masks: dict[str, Tensor], skip: bool) -> dict[str, Tensor]:
    """One step's logits and gradients."""
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(4, *IMAGE_SHAPE, generator=torch.Generator().manual_seed(1))
    x = x.contiguous(memory_format=torch.channels_last)
    with skip_dead(model, masks, IMAGE_SHAPE if skip else None):
        out = model(x)
        model.zero_grad()
        out.square().mean().backward()
    grads = {
        name: torch.zeros_like(p) if p.grad is None else p.grad * masks.get(name, torch.ones(()))
        for name, p in model.named_parameters()
    }
    return {"logits": out.detach(), **grads}


def test_skipping_whole_blocks_changes_no_bit() -> None:
    results = []
    for skip in (True, False):
        model = resnet()
        masks = without(model, ["layer1.1.conv2", "layer2.0.conv2", "layer3.2.conv1"])
        results.append(trained_step(model, masks, skip))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[1])


def test_skipped_blocks_run_no_convolution() -> None:
    model = resnet()
    masks = without(model, ["layer1.1.conv2", "layer3.2.conv2"])
    calls: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    with skip_dead(model, masks, IMAGE_SHAPE) as dead:
        calls.clear()  # of tracing
        model(torch.zeros(1, *IMAGE_SHAPE))
        assert dead == ["layer1.1.conv2", "layer3.2.conv2"]
        assert "layer1.1" in calls
        assert not any(name.startswith(("layer1.1.", "layer3.2.")) for name in calls)
    model(torch.zeros(1, *IMAGE_SHAPE))
    assert "layer1.1.conv1" in calls  # as it was


def test_a_module_that_runs_twice_is_left_alone() -> None:
    model = randomise(ResNetLike())
    masks = without(model, ["layer2.1.conv2"])  # its ReLU runs in both halves of the block
    x = torch.randn(2, *IMAGE_SHAPE)
    expected = model(x)
    with skip_dead(model, masks, IMAGE_SHAPE):
        assert torch.equal(model(x), expected)


def test_removed_channels_stay_removed_through_the_pipeline(gpw: Gpw) -> None:
    epochs = ("pretrain.train.epochs=1", "finetune.train.epochs=1")
    pruned = ("data=digits", "scheme=channel", "sparsity=0.7")
    ran = gpw("finetune", *pruned, *epochs, "--json")
    assert ran.code == 0, ran.err
    tensors = load_file(f".gpw/store/finetune/{ran.json['finetune']['key']}/model.safetensors")
    for conv, norm in (("features.3", "features.4"), ("features.6", "features.7")):
        dead = ~tensors[f"{conv}.weight"].flatten(1).any(1)
        shifts = tensors[f"{norm}.bias"][dead]
        assert len(shifts) == 45
        assert torch.count_nonzero(shifts) == 0


def test_keys_from_before_the_setting_are_those_of_keep_shift() -> None:
    committed = json.loads((RESULTS / "paper_gpw" / "sweep.json").read_text())["points"]
    planned = {p.id: p.steps for p in plan_sweep(Request(["experiment=paper_gpw"])).points}
    for point in committed:
        keys = {step.stage.name: step.key for step in planned[point["id"]]}
        for stage in ("pretrain", "prune", "finetune"):
            assert keys.get(stage) == point["keys"].get(stage)
    new, old = (plan(compose(["sparsity=0.7", f"pruning.keep_shift={v}"])) for v in (False, True))
    assert [a.key == b.key for a, b in zip(new, old, strict=True)] == [True] + [False] * 5
