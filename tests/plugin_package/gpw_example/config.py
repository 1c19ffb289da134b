"""What ``target=adder`` can set: its fields are keys, their defaults its values."""

from __future__ import annotations

from dataclasses import dataclass

from gpw_cli.targets.base import TargetConfig


@dataclass(frozen=True)
class AdderConfig(TargetConfig):
    """An NPU that does one multiplication at a time."""

    lanes: int = 8  # channels of a tile, both ways
    clock_mhz: float = 100.0
