"""What an option of this family says."""

from __future__ import annotations

from dataclasses import dataclass

from gpw_cli.targets.base import TargetConfig


@dataclass(frozen=True)
class ToyConfig(TargetConfig):
    """``lanes``: channels of a tile, both ways. ``guesses``: whether it computes logits at all."""

    lanes: int
    guesses: bool
    clock_mhz: float
