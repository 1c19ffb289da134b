"""An integer graph as two files of an artifact: arrays in safetensors, the rest in JSON.

save(graph, folder)              # folder/graph.safetensors, folder/graph.json
graph = load(folder)             # equal, array for array
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from gpw_cli.errors import CheckpointError, UnsupportedError
from gpw_cli.graph.integer import IntGraph, IntNode, Rescale
from gpw_cli.graph.integer_verify import verify_integer
from gpw_cli.graph.ir import Node

ARRAYS, GRAPH = "graph.safetensors", "graph.json"
VERSION = 1
KINDS: dict[str, type[IntNode]] = {kind.__name__: kind for kind in get_args(IntNode)}


def save(graph: IntGraph, folder: Path) -> None:
    """Writes both files into an existing folder."""
    arrays: dict[str, NDArray[Any]] = {}
    text = {
        "version": VERSION,
        "output": graph.output,
        "scales": dict(graph.scales),
        "mean": graph.mean,
        "std": graph.std,
        "nodes": [
            {"kind": type(node).__name__, **plain(node, node.name, arrays)} for node in graph.nodes
        ],
    }
    save_file(arrays, folder / ARRAYS)
    (folder / GRAPH).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> IntGraph:
    """The verified graph that ``save`` wrote; CheckpointError if it is missing or damaged."""
    try:
        text = json.loads((folder / GRAPH).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)
        nodes = tuple(KINDS[entry["kind"]](**read(entry, arrays)) for entry in text["nodes"])
        graph = IntGraph(
            nodes, text["output"], text["scales"], tuple(text["mean"]), tuple(text["std"])
        )
        return verify_integer(graph)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, UnsupportedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{folder} holds no readable integer network ({reason}); quantize again"
        ) from error


def plain(
    value: IntNode | Node | Rescale, prefix: str, arrays: dict[str, NDArray[Any]]
) -> dict[str, Any]:
    """The fields of a node for JSON; an array moves to ``arrays`` and leaves its key."""
    found: dict[str, Any] = {}
    for field in fields(value):
        entry = getattr(value, field.name)
        if isinstance(value, Rescale) and field.name == "multiplier" and not value.multiplies:
            continue  # keeps the files of networks without multipliers unchanged
        key = f"{prefix}/{field.name}"
        if isinstance(entry, np.ndarray):
            arrays[key] = np.ascontiguousarray(entry)
            entry = {"array": key}
        elif isinstance(entry, Rescale):
            entry = {"rescale": plain(entry, key, arrays)}
        found[field.name] = entry
    return found


def read(entry: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The fields of the node that ``plain`` described, with its arrays."""
    return {name: _value(value, arrays) for name, value in entry.items() if name != "kind"}


def _value(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict) and "array" in value:
        return arrays[value["array"]]
    if isinstance(value, dict):
        return Rescale(**{name: _value(entry, arrays) for name, entry in value["rescale"].items()})
    return value
