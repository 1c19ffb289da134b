"""Masks during training, fixed or chosen anew between epochs.

    masking = Masking(model, masks)
    masking.hold()                       # after backward: zero the gradients of removed weights
    masking.change(chosen)               # removed groups may return with the weights they had

A removed weight is zero in the network. Its last value is kept, so that a later choice can score
the weight and restore it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# (network, its parameters with removed weights at their last values, share to remove) -> masks
NewMasks = Callable[[nn.Module, Mapping[str, Tensor], float], dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Gradual:
    """``shares``: epoch (from 0) before which masks are chosen -> share of the final sparsity.

    Zhu and Gupta 2017: share = 1 - (1 - k/n)^3 at step k of n.
    """

    shares: Mapping[int, float]
    new_masks: NewMasks

    @classmethod
    def cubic(cls, steps: int, epochs: int, new_masks: NewMasks) -> Gradual:
        """``steps`` over the first ``epochs`` epochs, at most one per epoch."""
        return cls(
            {step * epochs // steps: 1 - (1 - (step + 1) / steps) ** 3 for step in range(steps)},
            new_masks,
        )


class Masking:
    """``masks``: parameter name -> bool (True: kept) of the parameter's shape."""

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        self.named = dict(model.named_parameters())
        self.masks: dict[str, Tensor] = {}
        self.remembered: dict[str, Tensor] = {}
        self._held: list[tuple[nn.Parameter, Tensor]] = []
        self.change(masks)

    def full(self) -> dict[str, Tensor]:
        """Every parameter, with removed weights at their last values."""
        found = {name: parameter.detach() for name, parameter in self.named.items()}
        for name, mask in self.masks.items():
            kept = mask.to(found[name].device)
            found[name] = torch.where(kept, found[name], self.remembered[name])
        return found

    def change(self, masks: Mapping[str, Tensor]) -> None:
        """Replace the masks."""
        full = self.full()
        changed = self.masks.keys() | masks.keys()
        self.masks = dict(masks)
        self.remembered = {name: full[name].clone() for name in masks}
        with torch.no_grad():
            for name in changed:
                self.named[name].copy_(full[name])
        self._zero()

    def _zero(self) -> None:
        self._held = [
            (self.named[name], mask.to(self.named[name].device, self.named[name].dtype))
            for name, mask in self.masks.items()
        ]
        with torch.no_grad():
            for parameter, mask in self._held:
                parameter.mul_(mask)

    def hold(self) -> None:
        """Zero the gradients of removed weights.

        Their momenta then stay zero as well, and weight decay does not change a zero, so the
        weights stay exactly zero.
        """
        for parameter, mask in self._held:
            if parameter.grad is not None:
                parameter.grad.mul_(mask)

    def clear(self, optimizer: torch.optim.SGD) -> None:
        """Zero the momenta of removed weights; call after ``change`` during training."""
        for parameter, mask in self._held:
            momentum = optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                momentum.mul_(mask)

    def state(self) -> dict[str, Tensor]:
        """Tensors for the checkpoint, in addition to the weights."""
        kept = {f"mask/{name}": mask.contiguous() for name, mask in self.masks.items()}
        old = {f"remembered/{name}": t.contiguous() for name, t in self.remembered.items()}
        return kept | old

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state`` returned; the weights must be loaded already."""
        masks = {k.removeprefix("mask/"): v for k, v in state.items() if k.startswith("mask/")}
        if masks:
            self.masks = masks
            self.remembered = {name: state[f"remembered/{name}"] for name in masks}
            self._zero()
