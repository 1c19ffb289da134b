"""Networks in artifacts: weights in safetensors, the architecture in ``network.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

from gpw_cli.models.registry import build_model

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from gpw_cli.config.schema import Config
    from gpw_cli.data.pictures import Pictures
    from gpw_cli.stages.pipeline import Job
    from gpw_cli.store.store import Artifact

WEIGHTS, NETWORK, MASKS, HISTORY = (
    "model.safetensors",
    "network.json",
    "masks.safetensors",
    "metrics.jsonl",
)


def fresh_network(
    config: Config, classes: int, channels: int
) -> tuple[nn.Module, dict[str, object]]:
    """A newly initialised network and the description that rebuilds it."""
    described: dict[str, object] = {
        "name": config.model.name,
        "classes": classes,
        "in_channels": channels,
        "shortcut": config.model.shortcut,
    }
    if config.model.widths:
        described["widths"] = config.model.widths
    return build_described(described), described


def build_described(described: Mapping[str, Any]) -> nn.Module:
    """The network that ``network.json`` describes, newly initialised."""
    return build_model(
        described["name"],
        described["classes"],
        described["in_channels"],
        described["shortcut"],
        described.get("widths", ()),
    )


def save_network(work: Path, model: nn.Module, described: Mapping[str, object]) -> None:
    """Write weights and description."""
    save_weights(work / WEIGHTS, model.state_dict())
    (work / NETWORK).write_text(json.dumps(described, indent=1))


def save_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file of contiguous CPU tensors (channels_last memory order is not kept)."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def load_network(artifact: Artifact) -> tuple[nn.Module, dict[str, object]]:
    """The network of an artifact, on the CPU, and its description."""
    described = json.loads(artifact.file(NETWORK).read_text())
    model = build_described(described)
    model.load_state_dict(load_file(artifact.file(WEIGHTS)))
    return model, described


def load_masks(artifact: Artifact) -> dict[str, Tensor]:
    """Parameter name -> bool mask."""
    return load_file(artifact.file(MASKS))


def picture_of(job: Job) -> tuple[int, int, int]:
    """[C, H, W] of the pictures that the network sees."""
    return picture_shape_of(job.services.pictures(job.config))


def picture_shape_of(pictures: Pictures) -> tuple[int, int, int]:
    """[C, H, W] of the images of a data set."""
    height, width, channels = pictures.train.images.shape[1:]
    return channels, height, width


def evaluate(job: Job, model: nn.Module) -> dict[str, object]:
    """Test accuracy (percent, fp32) and the number of pictures it was measured on."""
    from gpw_cli.training.evaluate import accuracy

    pictures = job.services.pictures(job.config)
    value = accuracy(model.to(job.services.device()), pictures.test, pictures)
    return {"test_accuracy": round(value, 4), "n_test": len(pictures.test)}
