"""A float graph as two files of an artifact: arrays in safetensors, the rest in JSON.

save(graph, folder)              # folder/float.safetensors, folder/float.json
graph = load(folder)             # equal, array for array; None where there is none
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from gpw_cli.errors import CheckpointError, UnsupportedError
from gpw_cli.graph.integer_io import plain, read
from gpw_cli.graph.ir import Graph, Node, verify

ARRAYS, GRAPH = "float.safetensors", "float.json"
VERSION = 1
KINDS: dict[str, type[Node]] = {kind.__name__: kind for kind in get_args(Node)}


def save(graph: Graph, folder: Path) -> None:
    """Writes both files into an existing folder."""
    arrays: dict[str, NDArray[Any]] = {}
    nodes = [
        {"kind": type(node).__name__, **plain(node, node.name, arrays)} for node in graph.nodes
    ]
    text = {"version": VERSION, "output": graph.output, "nodes": nodes}
    save_file(arrays, folder / ARRAYS)
    (folder / GRAPH).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> Graph | None:
    """The verified graph that ``save`` wrote; None in a folder that holds none.

    Raises CheckpointError for a damaged file.
    """
    if not (folder / GRAPH).is_file():
        return None
    try:
        text = json.loads((folder / GRAPH).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)
        nodes = tuple(KINDS[entry["kind"]](**read(entry, arrays)) for entry in text["nodes"])
        return verify(Graph(nodes, text["output"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, UnsupportedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{folder} holds no readable float network ({reason}); quantize again"
        ) from error
