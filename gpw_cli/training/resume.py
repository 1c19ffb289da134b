"""The checkpoint of an unfinished run: weights, momenta and history, in one safetensors file.

It is written under a temporary name and renamed, so a kill leaves the checkpoint of either this
epoch or the previous one.
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
    """Write the state after an epoch: weights and buffers, SGD momenta, one dict per epoch.

    besides: further tensors by name.
    """
    tensors = {f"model/{k}": v for k, v in apart(model.state_dict()).items()}
    for name, parameter in model.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum/{name}"] = momentum.contiguous()
    tensors |= {f"besides/{name}": tensor for name, tensor in (besides or {}).items()}
    partial = path.with_suffix(".tmp")
    save_file(tensors, partial, metadata={"history": json.dumps(history)})
    os.replace(partial, path)


def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors without gradients; a copy of each that shares its memory with another.

    safetensors refuses shared memory, which modules with the same parameter have.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().contiguous()
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return found


def load(
    path: Path, model: nn.Module, optimizer: torch.optim.SGD, row: type[Row]
) -> tuple[list[Row], dict[str, Tensor]]:
    """Restore the state; returns the history and the further tensors.

    Both are empty if the checkpoint is missing or unreadable.
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
            # in the memory format of the parameter (channels_last), as during training
            state = torch.empty_like(parameter).copy_(momentum)
            optimizer.state[parameter]["momentum_buffer"] = state
    besides = {k.removeprefix("besides/"): v for k, v in tensors.items() if "besides/" in k[:8]}
    return [row(**fields) for fields in history], besides
