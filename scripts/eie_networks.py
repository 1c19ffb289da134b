"""ResNet-20 on EIE from the weights that the repository holds; nothing is trained.

    python scripts/eie_networks.py [--images 500] [--cache FOLDER]      # results/eie/networks.csv

dense: the bundled weights. gpw: results/paper_gpw/weights, the very networks that ran on VTA. fine,
balanced: masks of the bundled weights without fine-tuning, so their cycles, load balance and
storage are measured, and their accuracy is not. Each on EIE with 64 PEs and with as many
multipliers as VTA has.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from gpw_cli.config.compose import compose
from gpw_cli.config.target import load_target
from gpw_cli.data.images import Images, normalise
from gpw_cli.data.registry import load_images
from gpw_cli.graph.integer import IntGraph
from gpw_cli.graph.trace import trace
from gpw_cli.models.registry import build_model
from gpw_cli.models.weight_files import bundled_weights
from gpw_cli.pruning.candidates import prunable_layers
from gpw_cli.pruning.masks import apply_masks, prune_masks
from gpw_cli.quantization.quantize import prepare, quantize_graph
from gpw_cli.quantization.ranges import calibrate
from gpw_cli.quantization.reference import quantize_images, run
from gpw_cli.targets.eie.compiled import CompiledEie
from gpw_cli.targets.eie.config import EieConfig
from gpw_cli.targets.eie.network import compile_network

RESULTS = Path(__file__).resolve().parent.parent / "results"
Row = dict[str, Any]


def networks() -> Iterator[tuple[str, float, bool, nn.Module]]:
    """(scheme, sparsity, trained, network)."""
    shipped = bundled_weights("resnet20", "A", "cifar10")
    assert shipped is not None
    yield "dense", 0.0, True, loaded(shipped)
    for scheme in ("fine", "balanced"):
        yield scheme, 0.9, False, masked(loaded(shipped), scheme, "0.9")
    for sparsity in (0.9, 0.7, 0.5):
        name = f"scheme=gpw,sparsity={sparsity},scope=layer,seed=0.safetensors"
        yield "gpw", sparsity, True, loaded(RESULTS / "paper_gpw" / "weights" / name)
    for scheme in ("fine", "balanced"):
        yield scheme, 0.7, False, masked(loaded(shipped), scheme, "0.7")


def loaded(file: Path) -> nn.Module:
    model = build_model("resnet20", 10, 3, "A")
    model.load_state_dict(load_file(file))
    return model.eval()


def masked(model: nn.Module, scheme: str, sparsity: str) -> nn.Module:
    names = prunable_layers(model, include_first=False, include_last=False)
    weights = dict(model.named_parameters())
    pruning = compose([f"scheme={scheme}", f"sparsity={sparsity}"]).pruning
    found = prune_masks(
        weights,
        names,
        scheme=pruning.scheme,
        sparsity=pruning.exact_sparsity,
        scope=pruning.scope,
        criterion=pruning.criterion,
        tile=(64, 1),
    )
    apply_masks(model, found.masks)
    return model


def integers(model: nn.Module, data: Images) -> IntGraph:
    quantizer = compose([]).quantizer
    graph = prepare(trace(model, (3, 32, 32), data.mean, data.std), quantizer)
    images = data.train.images[: quantizer.calibration]
    ranges = calibrate(graph, [normalise(images, graph.input.mean, graph.input.std)], quantizer)
    return quantize_graph(graph, ranges, quantizer, fused=True)


def rows_of(model: nn.Module, data: Images, images: int, trained: bool) -> Iterator[Row]:
    graph = integers(model, data)
    test = data.test
    x = quantize_images(graph, test.images[:images])
    labels = test.labels[:images].numpy()
    measured: Row = {"accuracy": None, "int8": None, "images": 0}
    for name in ("eie", "eie_256"):
        config = load_target(name, EieConfig)
        pes = config.pes
        compiled = CompiledEie(compile_network(graph, config))
        if trained and pes == 64:  # the arithmetic does not depend on the PEs
            own = (compiled.simulator()(x).argmax(1) == labels).mean()
            int8 = (run(graph, x).argmax(1) == labels).mean()
            measured = {"accuracy": 100 * own, "int8": 100 * int8, "images": images}
        timing = compiled.time_on(x[:1])
        accesses, storage = timing.accesses, compiled.network.storage
        yield {
            "pes": pes,
            **measured,
            "cycles": timing.cycles,
            "ms": timing.milliseconds,
            "theoretical": timing.theoretical_cycles,
            "bound": timing.bound_cycles,
            "balance": accesses.balance(pes),
            "broadcasts": accesses.broadcasts,
            "held_back": accesses.full,
            "vectors": accesses.vectors,
            "lines_read": accesses.lines,
            "lines_stored": timing.entry_lines,
            "kib": storage.bits / 8 / 1024,
            "padding": storage.padding / storage.entries,
            "compression": storage.compression,
            "energy_uj": sum(timing.picojoules.values()) / 1e6,
            **{f"{name}_uj": value / 1e6 for name, value in timing.picojoules.items()},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500, help="test images for the accuracy")
    parser.add_argument("--cache", type=Path, default=Path(".gpw/data"), help="fetched data")
    parser.add_argument("--results", type=Path, default=RESULTS / "eie")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_images("cifar10", None, args.cache, 32, 3, lambda *_: None)
    rows: list[Row] = []
    args.results.mkdir(parents=True, exist_ok=True)
    for scheme, sparsity, trained, model in networks():
        for row in rows_of(model, data, args.images, trained):
            rows.append({"scheme": scheme, "sparsity": sparsity, **row})
            print({k: v for k, v in rows[-1].items() if not k.endswith("_uj")}, flush=True)
        pd.DataFrame(rows).round(6).to_csv(args.results / "networks.csv", index=False)


if __name__ == "__main__":
    main()
