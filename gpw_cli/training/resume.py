"""The checkpoint of an unfinished run: weights, momenta and history, in one safetensors file.

Written beside its final name and moved over it, so that a kill at any moment leaves either the
previous epoch's checkpoint or this one's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

Row = TypeVar("Row")


def save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.SGD,
    history: list[dict[str, Any]],
    besides: Mapping[str, Tensor] | None = None,
) -> None:
    """Commit the state after an epoch (weights and buffers, SGD momenta, one dict an epoch).

    besides: other tensors, under names of their own.
    """
    tensors = {f"model/{k}": v.detach().contiguous() for k, v in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum/{name}"] = momentum.contiguous()
    tensors |= {f"besides/{name}": tensor for name, tensor in (besides or {}).items()}
    partial = path.with_suffix(".tmp")
    save_file(tensors, partial, metadata={"history": json.dumps(history)})
    os.replace(partial, path)


def load(
    path: Path, model: nn.Module, optimizer: torch.optim.SGD, row: type[Row]
) -> tuple[list[Row], dict[str, Tensor]]:
    """Restore the state; its history, and what was saved besides.

    An absent or unreadable checkpoint starts anew.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 (not a dict)
            history = json.loads(stored.metadata()["history"])
    except (FileNotFoundError, SafetensorError, KeyError, ValueError):
        return [], {}
    weights = {k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")}
    model.load_state_dict(weights)
    for name, parameter in model.named_parameters():
        momentum = tensors.get(f"momentum/{name}")
        if momentum is not None:
            # the layout of the parameter (channels_last): a step must read the same memory order
            state = torch.empty_like(parameter).copy_(momentum)
            optimizer.state[parameter]["momentum_buffer"] = state
    besides = {k.removeprefix("besides/"): v for k, v in tensors.items() if "besides/" in k[:8]}
    return [row(**fields) for fields in history], besides
