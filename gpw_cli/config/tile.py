"""The pruning group's tile: what the configuration says, else the target's GEMM tile."""

from __future__ import annotations

from gpw_cli.config.schema import Config

VTA_TILE = (16, 16)  # B_out, B_in of VTA's default geometry (LOG_BLOCK 4)


def pruning_tile(config: Config) -> tuple[int, int]:
    """(B_out, B_in) in weights."""
    return config.pruning.tile_out or VTA_TILE[0], config.pruning.tile_in or VTA_TILE[1]
