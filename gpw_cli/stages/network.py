"""Networks in artifacts: weights as safetensors, the architecture in ``network.json``."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn.parameter import is_lazy

from gpw_cli.errors import CheckpointError, UsageError
from gpw_cli.models.checkpoint import import_checkpoint
from gpw_cli.models.onnx_file import is_onnx
from gpw_cli.models.own import blamed_on, is_own
from gpw_cli.models.registry import build_model
from gpw_cli.models.torchvision_weights import is_named, require_weights
from gpw_cli.stages.inputs import image_shape, model_identity, weights_file
from gpw_cli.training.resume import apart

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from gpw_cli.config.schema import Config
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
    """A newly initialised network and its description for ``network.json``."""
    described: dict[str, object] = {
        "name": config.model.name,
        "classes": classes,
        "in_channels": channels,
        "shortcut": config.model.shortcut,
    }
    if config.model.widths:
        described["widths"] = config.model.widths
    if is_users(config):
        described |= {"own": model_identity(config)["name"], "args": config.model.args}
    model = build_described(described)
    if any(map(is_lazy, model.parameters())):  # they get their shapes from an image
        _answer(config, model)
    return model, described


def build_described(described: Mapping[str, Any]) -> nn.Module:
    """The network of a ``network.json``, newly initialised."""
    return build_model(
        described["name"],
        described["classes"],
        described["in_channels"],
        described["shortcut"],
        described.get("widths", ()),
        described.get("args"),
    )


def give_weights(config: Config, model: nn.Module, download: bool = True) -> Path | None:
    """Load the weights of ``pretrain.source`` into ``model``; returns their file, if any.

    Without ``download`` torchvision's weights are loaded only if their file is there already.
    """
    source, name = weights_file(config), config.pretrain.source
    if source is not None:
        if is_named(name) and not require_weights(source, config.model.name, name, download):
            return None
        import_checkpoint(source, model)
    return source


def is_users(config: Config) -> bool:
    """Whether the network is the user's own code or an ONNX file."""
    return is_own(config.model.name) or is_onnx(config.model.name)


def require_outputs(config: Config, model: nn.Module, classes: int) -> None:
    """Raise UsageError unless the user's own network gives one logit per class, also in training.

    The network is not changed and no random numbers are used up.
    """
    for images, training in ((1, False), (2, True)):
        own = copy.deepcopy(model) if training else model
        with torch.random.fork_rng(devices=[]):
            result = _answer(config, own, images, training)
        given = list(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
        if given != [images, classes]:
            raise UsageError(
                f"model={config.model.name}: gives {given} for {_counted(images)}"
                f"{' in training' if training else ''}, but data={config.data.name} has {classes} "
                f"classes: it must give one tensor [{images}, {classes}]"
            )


def _counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def _answer(config: Config, model: nn.Module, images: int = 1, training: bool = False) -> object:
    """What the network returns for black images."""
    channels, size = image_shape(config)
    try:
        with torch.no_grad(), blamed_on(config.model.name):
            return model.train(training)(torch.zeros(images, channels, size, size))
    except UsageError as error:
        raise UsageError(
            f"model={config.model.name}: does not take {_counted(images)} of "
            f"{channels}x{size}x{size}{' in training' if training else ''}: "
            f"{str(error).removeprefix(f'model={config.model.name}: ')}; data.size and "
            "data.channels set their shape"
        ) from error


def save_network(work: Path, model: nn.Module, described: Mapping[str, object]) -> None:
    """Write the weights and the description. A tensor that modules share is written for each."""
    save_weights(work / WEIGHTS, model.state_dict())
    (work / NETWORK).write_text(json.dumps(described, indent=1))


def save_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write contiguous CPU tensors to a safetensors file; channels_last is not kept."""
    save_file(apart({name: tensor.cpu() for name, tensor in tensors.items()}), path)


def load_network(artifact: Artifact, config: Config) -> tuple[nn.Module, dict[str, object]]:
    """The network of an artifact, on the CPU, and its description.

    The user's own code runs only from the file that ``config`` names, never from one that the
    artifact names. Raises CheckpointError for an artifact of other code.
    """
    described = json.loads(artifact.file(NETWORK).read_text())
    if "own" in described or is_own(described["name"]):
        described["name"] = config.model.name
        if described.get("own") != model_identity(config)["name"]:
            raise CheckpointError(f"{artifact.path}: made by other code than {config.model.name}")
    model = build_described(described)
    model.load_state_dict(load_file(artifact.file(WEIGHTS)))
    return model, described


def load_masks(artifact: Artifact) -> dict[str, Tensor]:
    """Parameter name -> bool mask."""
    return load_file(artifact.file(MASKS))


def image_shape_of(job: Job) -> tuple[int, int, int]:
    """[C, H, W] of one image of the data set."""
    return job.services.images(job.config).shape


def evaluate(job: Job, model: nn.Module, count: int = 0) -> dict[str, object]:
    """Test accuracy (percent, fp32) and the number of test images: the first ``count``; 0: all."""
    from gpw_cli.training.evaluate import accuracy

    images = job.services.images(job.config)
    test = images.test.first(count)
    value = accuracy(model.to(job.services.device()), test, images)
    return {"test_accuracy": round(value, 4), "n_test": len(test)}
