"""A sweep folder as ``gpw sweep`` would leave it, its numbers from a formula, not training."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np


def numbers(text: str) -> list[float]:
    """Every number of a caption, in order, without signs."""
    return [float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


SHAPES = {
    "layer1.0.conv1": (16, 16, 3, 3),
    "layer2.0.conv1": (32, 16, 3, 3),
    "layer2.0.conv2": (32, 32, 3, 3),
    "layer3.0.conv1": (64, 32, 3, 3),
    "layer3.0.conv2": (64, 64, 3, 3),
    "layer3.1.conv1": (64, 64, 3, 3),
    "layer3.1.conv2": (64, 64, 3, 3),
}
SIZES = {  # channels of one group (output, input); None: all; whether it spans the kernel
    "gpw": (16, 16, False),
    "block": (16, 16, True),
    "channel": (1, None, True),
    "vector": (1, 16, False),
    "fine": (1, 1, False),
}
DROP = {"gpw": 3.0, "block": 12.0, "channel": 8.0, "vector": 2.0, "fine": 1.0}


def grid(scheme: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Groups along each axis of a weight."""
    out, inp, whole = SIZES[scheme]
    kernel = (1, 1) if whole else shape[2:]
    return (shape[0] // out, 1 if inp is None else shape[1] // inp, *kernel)


def layer(scheme: str, name: str, sparsity: float) -> dict[str, Any]:
    size = grid(scheme, SHAPES[name])
    groups = math.prod(size)
    removed = math.floor(sparsity * groups + 0.5)
    scores = np.random.default_rng(len(name) + groups).permutation(groups)
    kept = scores >= removed
    return {
        "name": name,
        "shape": list(SHAPES[name]),
        "grid": list(size),
        "groups": groups,
        "removed": removed,
        "sparsity": removed / groups,
        "kept": np.packbits(kept).tobytes().hex(),
    }


def history(epochs: int, final: float) -> list[dict[str, Any]]:
    rows = []
    for epoch in range(1, epochs + 1):
        value = final - 6.0 * (1 - epoch / epochs)
        tested = epoch % 5 == 0 or epoch == epochs
        rows.append(
            {
                "epoch": epoch,
                "loss": (100 - value) / 30,
                "train_accuracy": value - 1.0,
                "test_accuracy": value if tested else None,
                "lr": 0.1,
            }
        )
    return rows


def record(scheme: str, sparsity: float, seed: int, axes: dict[str, Any]) -> dict[str, Any]:
    """A finished point. Accuracy: 91.5 - drop * s^2 - 0.1 * seed (- 1 for scope global)."""
    scope = str(axes.get("scope", "layer"))
    value = 91.5 - DROP[scheme] * sparsity**2 - 0.1 * seed - (scope == "global")
    layers = [layer(scheme, name, sparsity) for name in SHAPES]
    total, removed = (sum(entry[k] for entry in layers) for k in ("groups", "removed"))
    model = {"name": "resnet20", "shortcut": "A"}
    pruning = {"scheme": scheme, "sparsity": sparsity, "scope": scope, "criterion": "l1"}
    described = {"scheme": scheme, "sparsity": sparsity, "scope": scope, "seed": seed}
    pretrain = {"source": "bundled.safetensors", "recipe": "fast", "epochs": 45}
    prune = {"groups_total": total, "groups_removed": removed}
    reached = {"sparsity_prunable": removed / total, "sparsity_network": 0.98 * removed / total}
    return {
        "axes": {**axes, **described},
        "config": {"model": model, "data": {"name": "cifar10"}, "pruning": pruning, "seed": seed},
        "status": "done",
        "error": None,
        "n_test": 10000,
        "stages": {
            "pretrain": {"key": "p" * 40, "commit": "c0ffee", "metrics": _with(91.5, pretrain)},
            "prune": {
                "key": f"m{scheme}{sparsity}",
                "commit": "c0ffee",
                "metrics": _with(max(10.0, value - 60 * sparsity), {**prune, **reached}),
                "layers": layers,
            },
            "finetune": {
                "key": f"f{scheme}{sparsity}{seed}",
                "commit": "c0ffee",
                "metrics": _with(value, {"recipe": "restart", "epochs": 10}),
                "history": history(10, value),
            },
        },
    }


def _with(accuracy: float, metrics: dict[str, Any]) -> dict[str, Any]:
    return {"test_accuracy": round(accuracy, 4), **metrics, "n_test": 10000}


def add_npu(point: dict[str, Any]) -> None:
    """The later stages: int8 costs 0.2 point, the fused network 0.1, cycles follow the groups."""
    stages = point["stages"]
    point["config"]["target"] = {"name": "vta"}
    value = stages["finetune"]["metrics"]["test_accuracy"]
    kept = 1 - stages["prune"]["metrics"]["sparsity_prunable"]
    layers = []
    for entry in stages["prune"]["layers"]:
        work = math.prod(entry["shape"]) * (1 - entry["sparsity"])
        busy = {
            "gemm": work,
            "alu": 900.0,
            "load": 0.3 * work + 200,
            "store": 300.0,
            "stall": 150.0,
        }
        layers.append({"name": entry["name"], "cycles": sum(busy.values()), **busy})
    cycles = round(sum(entry["cycles"] for entry in layers))
    stages["quantize"] = {"key": "q", "metrics": _with(value - 0.2, {})}
    stages["fuse"] = {"key": "u", "metrics": _with(value - 0.1, {})}
    counts = {
        "cycles": cycles,
        "bound_cycles": round(0.9 * cycles),
        "dram_bytes": round(9e5 * kept),
    }
    stages["simulate"] = {
        "key": "s",
        "metrics": _with(value - 0.1, {**counts, "gemm_utilisation": 0.5 * kept}),
        "layers": layers,
    }


def write_sweep(
    folder: Path,
    schemes: tuple[str, ...] = ("block", "gpw"),
    sparsities: tuple[float, ...] = (0.5, 0.7, 0.9),
    seeds: tuple[int, ...] = (0,),
    scopes: tuple[str, ...] = (),
    *,
    npu: bool = False,
) -> list[str]:
    """Write ``sweep.json`` and every point below ``folder``; returns the points' ids."""
    axes: dict[str, list[Any]] = {"scheme": list(schemes), "sparsity": list(map(str, sparsities))}
    axes |= {"seed": list(map(str, seeds))} if len(seeds) > 1 else {}
    axes |= {"scope": list(scopes)} if scopes else {}
    planned = []
    (folder / "points").mkdir(parents=True)
    for chosen in itertools.product(*axes.values()):
        own = dict(zip(axes, chosen, strict=True))
        point = ",".join(f"{key}={value}" for key, value in own.items())
        content = record(own["scheme"], float(own["sparsity"]), int(own.get("seed", 0)), own)
        if npu:
            add_npu(content)
        (folder / "points" / f"{point}.json").write_text(json.dumps({"id": point, **content}))
        planned.append({"id": point, "axes": own, "keys": {}})
    head = {"version": 1, "name": folder.name, "overrides": ["model=resnet20"], "grids": [axes]}
    (folder / "sweep.json").write_text(json.dumps({**head, "points": planned}))
    return [entry["id"] for entry in planned]


def write_knobs(folder: Path, knobs: dict[str, float], bits: tuple[int, ...] = (8, 4)) -> None:
    """A study of the preset ``best`` on the dense network: at b bits it has 91 - (8 - b) %, and
    each knob (``rounding=truncate``) adds its number of points, twice that below 8 bits.
    """
    (folder / "points").mkdir(parents=True)
    planned = []
    for name, effect in {"": 0.0, **knobs}.items():
        for width in bits:
            key, _, value = name.partition("=")
            own = {"scheme": "dense", "bits": str(width)}
            own |= {f"quantizer.{key}": value} if key else {}
            point = ",".join(f"{key}={value}" for key, value in own.items())
            content = record("gpw", 0.0, 0, {})
            content["axes"] = {**own, "sparsity": 0.0, "scope": "layer", "seed": 0}
            content["config"]["quantizer"] = {"name": "best"}
            del content["stages"]["prune"], content["stages"]["finetune"]
            reached = 91 - (8 - width) + effect * (1 if width == 8 else 2)
            sizes = {"weight_bits": width, "act_bits": width}
            content["stages"]["quantize"] = {"key": "q", "metrics": _with(reached - 0.5, sizes)}
            content["stages"]["fuse"] = {"key": "u", "metrics": _with(reached, {})}
            file = folder / "points" / f"{point}.json"
            file.write_text(json.dumps({"id": point, **content}))
            planned.append({"id": point, "axes": own, "keys": {}})
    head = {"version": 1, "name": folder.name, "overrides": [], "grids": []}
    (folder / "sweep.json").write_text(json.dumps({**head, "points": planned}))
