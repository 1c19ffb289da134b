"""What the functions of ``gpw_cli.api`` require of their arguments; UsageErrors of one line.

require_images(images)
require_masks(model, masks)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gpw_cli.config.compose import expanded
from gpw_cli.data.images import Images
from gpw_cli.errors import UsageError
from gpw_cli.pruning.norms import evaluating


def require_images(images: object) -> None:
    """Raise UsageError unless ``images`` are float32 [N, C, H, W] with N > 0, all finite."""
    shown = type(images).__name__
    if isinstance(images, Tensor):
        shown = f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
        if images.dtype is torch.float32 and images.ndim == 4 and images.numel():
            if not bool(torch.isfinite(images).all()):
                raise UsageError("the images hold NaN or infinity")
            return
    raise UsageError(
        f"images are {shown}: expected a tensor float32 [N, C, H, W], as gpw_cli.normalise gives"
    )


def logits_of(model: object, images: Tensor) -> Tensor:
    """Logits [1, classes] of the first image; UsageError unless ``model`` gives such."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"model is a {type(model).__name__}, not a torch.nn.Module")
    shape = list(images.shape[1:])
    first = next(iter(model.parameters()), images)
    try:
        with torch.no_grad(), evaluating(model):
            found = model(images[:1].to(first.device, first.dtype))
    except Exception as error:  # code of the user's own
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise UsageError(
            f"{type(model).__name__} does not take an image {shape}: {type(error).__name__}: "
            f"{reason}"
        ) from error
    if not isinstance(found, Tensor) or found.ndim != 2:
        given = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(f"{type(model).__name__} gives {given}, not one tensor [N, classes]")
    return found


def require_labels(labels: object, images: Tensor, classes: int) -> None:
    """Raise UsageError unless ``labels`` are int64 [N], 0 to classes - 1, one for each image."""
    if not isinstance(labels, Tensor) or labels.dtype is not torch.int64:
        shown = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise UsageError(f"labels are {shown}: expected a tensor int64 [N]")
    if labels.shape != images.shape[:1]:
        raise UsageError(f"labels {list(labels.shape)} for {len(images)} images")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise UsageError(
            f"labels {int(labels.min())} to {int(labels.max())}: the model has {classes} outputs"
        )


def require_masks(model: nn.Module, masks: object) -> None:
    """Raise UsageError unless ``masks`` are bools of the shapes of parameters of ``model``."""
    if not isinstance(masks, Mapping):
        hint = ": give its .masks" if hasattr(masks, "masks") else ""
        raise UsageError(
            f"masks are a {type(masks).__name__}, no mapping of names to tensors{hint}"
        )
    own = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in own:
            raise UsageError(f"masks of another model: {type(model).__name__} has no {name}")
        if not isinstance(mask, Tensor) or mask.dtype is not torch.bool:
            raise UsageError(f"the mask of {name} is no tensor of bools")
        if mask.shape != own[name].shape:
            raise UsageError(
                f"masks of another model: that of {name} is {list(mask.shape)}, the parameter "
                f"{list(own[name].shape)}"
            )


def require_data(model: nn.Module, data: object) -> None:
    """Raise UsageError unless ``data`` are ``Images`` that fit ``model``."""
    if not isinstance(data, Images):
        raise UsageError(f"data are {type(data).__name__}: expected gpw_cli.Images")
    outputs = logits_of(model, torch.zeros(1, *data.shape)).shape[1]
    if outputs != len(data.classes):
        raise UsageError(
            f"{type(model).__name__} has {outputs} outputs, {data.name} {len(data.classes)} classes"
        )


def require_device(name: str) -> torch.device:
    """The device; UsageError for one that is not there."""
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device={name}: {reason}; use device=cpu") from error
    return found


def require_overrides(overrides: Sequence[str], *groups: str) -> None:
    """Raise UsageError for overrides outside of ``groups``, which would have no effect."""
    if isinstance(overrides, str):
        raise UsageError(f"overrides={overrides!r}: expected a list, such as [{overrides!r}]")
    for override in overrides:
        for full in expanded(override):
            name = full.partition("=")[0].lstrip("+~").partition("@")[2] or full.partition("=")[0]
            if not any(name == group or name.startswith(f"{group}.") for group in groups):
                raise UsageError(
                    f"override '{override}' has no effect here: expected settings of "
                    f"{', '.join(groups)}"
                )


def require_compiled(compiled: object) -> None:
    """Raise UsageError unless ``compile`` has made ``compiled``."""
    if not hasattr(compiled, "time"):
        raise UsageError(f"compiled is a {type(compiled).__name__}: give what compile returns")
