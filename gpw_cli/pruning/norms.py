"""What goes with an output channel whose weights are all gone: its batch norm's scale and shift.

    masks = masks | shift_masks(model, masks, (3, 32, 32))
    masks["layer1.1.bn2.weight"]         # bool [C]: False where the channel is gone

Without this such a channel would still send a constant. Its convolution's bias goes too, but the
classifier keeps its bias: that of a class is no channel.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Layer = nn.Conv2d | nn.Linear


def shift_masks(
    model: nn.Module, masks: Mapping[str, Tensor], picture: tuple[int, int, int]
) -> dict[str, Tensor]:
    """Masks (bool [C], on the CPU) of the scales, shifts and biases that go with ``masks``.

    masks: parameter name -> bool of a weight's shape [O, ...]; picture: [C, H, W]. Parameters of
    which nothing goes have no mask. A batch norm that also sees other tensors keeps its channels.
    """
    names = {module: name for name, module in model.named_modules()}
    norms, last = _followed(model, picture)
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
    """Which output channels of ``layer`` have weights: bool [O]; one True where it is unknown."""
    if layer is None:
        return torch.ones((), dtype=torch.bool)
    mask = masks.get(f"{names[layer]}.weight")
    if mask is None:
        return torch.ones(len(layer.weight), dtype=torch.bool)
    return mask.flatten(1).any(1)


def _followed(
    model: nn.Module, picture: tuple[int, int, int]
) -> tuple[dict[nn.Module, list[Layer | None]], Layer | None]:
    """For each batch norm the layers whose output it reads (None: something else); the last layer.

    Found by watching one picture of zeros pass. An operation in place between the two does no
    harm: what it makes of a constant channel is a constant.
    """
    made: dict[int, tuple[Layer, Tensor]] = {}  # the tensor is held, so that its id stays its own
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
    was_training = model.training
    first = next(model.parameters())
    try:
        with torch.no_grad():
            out = model.eval()(torch.zeros(1, *picture, dtype=first.dtype, device=first.device))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return norms, made.get(id(out), (None,))[0]
