"""Masks for the batch norms and biases of output channels without weights.

    masks = masks | shift_masks(model, masks, (3, 32, 32))
    masks["layer1.1.bn2.weight"]         # bool [C]: False for a removed channel

Otherwise the batch norm's shift would still make the channel a constant. The bias of the
convolution is masked too, except in the classifier, where a bias belongs to a class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Layer = nn.Conv2d | nn.Linear


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """``model`` in evaluation mode; each of its modules then gets its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def shift_masks(
    model: nn.Module, masks: Mapping[str, Tensor], image: tuple[int, int, int]
) -> dict[str, Tensor]:
    """Masks (bool [C], on the CPU) of the scales, shifts and biases of removed channels.

    masks: parameter name -> bool of a weight's shape [O, ...]; the input shape is [C, H, W].
    Parameters that keep all channels have no mask. A batch norm that also normalises other tensors
    keeps its channels.
    """
    names = {module: name for name, module in model.named_modules()}
    norms, last = _followed(model, image)
    found: dict[str, Tensor] = {}
    for norm, sources in norms.items():
        left = _left(sources[0], names, masks)
        for source in sources[1:]:
            left = left | _left(source, names, masks)
        found |= {f"{names[norm]}.{leaf}": left.clone() for leaf in ("weight", "bias")}
    for module, name in names.items():
        if isinstance(module, Layer) and module is not last:
            found[f"{name}.bias"] = _left(module, names, masks)
    own = dict(model.named_parameters())
    return {name: left for name, left in found.items() if name in own and not bool(left.all())}


def _left(
    layer: Layer | None, names: Mapping[nn.Module, str], masks: Mapping[str, Tensor]
) -> Tensor:
    """Which output channels of ``layer`` have weights: bool [O]; a single True if unknown."""
    if layer is None:
        return torch.ones((), dtype=torch.bool)
    mask = masks.get(f"{names[layer]}.weight")
    if mask is None:
        return torch.ones(len(layer.weight), dtype=torch.bool)
    return mask.flatten(1).any(1)


def _followed(
    model: nn.Module, image: tuple[int, int, int]
) -> tuple[dict[nn.Module, list[Layer | None]], Layer | None]:
    """For each batch norm, the layers whose output it reads (None: another tensor); last layer.

    They are found by running an image of zeros through the network. An in-place operation between
    the two is harmless, since it maps a constant channel to a constant.
    """
    made: dict[int, tuple[Layer, Tensor]] = {}  # holds the tensor, so that its id is not reused
    norms: dict[nn.Module, list[Layer | None]] = {}

    def after(layer: nn.Module, _: object, out: Tensor) -> None:
        assert isinstance(layer, Layer)
        made[id(out)] = (layer, out)

    def before(norm: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        norms.setdefault(norm, []).append(made.get(id(arguments[0]), (None,))[0])

    hooks = [m.register_forward_hook(after) for m in model.modules() if isinstance(m, Layer)]
    hooks += [
        m.register_forward_pre_hook(before)
        for m in model.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]
    first = next(model.parameters())
    try:
        with torch.no_grad(), evaluating(model):
            out = model(torch.zeros(1, *image, dtype=first.dtype, device=first.device))
    finally:
        for hook in hooks:
            hook.remove()
    return norms, made.get(id(out), (None,))[0]
