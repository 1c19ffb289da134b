"""What each stage's cache key is made from: its own sub-configuration, nothing of ``runtime``.

Imports no torch: keys of a whole sweep are computed in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gpw_cli.config.compose import to_plain
from gpw_cli.config.schema import Config, CountRounding
from gpw_cli.data.identity import data_identity
from gpw_cli.errors import CheckpointError, UsageError
from gpw_cli.models.bundled import bundled_names, bundled_weights
from gpw_cli.models.inputs import model_input
from gpw_cli.store.store import checksum
from gpw_cli.targets.registry import npu_of

NAMED_SOURCES = ("auto", "bundled", "scratch")
SOURCES = f"{', '.join(NAMED_SOURCES)}, or the path of a checkpoint file"


def picture_shape(config: Config) -> tuple[int, int]:
    """(channels, size in pixels) of the pictures: what the data group says, else the network's."""
    channels, size = model_input(config.model.name)
    return config.data.channels or channels, config.data.size or size


def pretrain(config: Config) -> Mapping[str, Any]:
    """Network, pictures, and either a recipe with its seed or the checksum of given weights."""
    channels, size = picture_shape(config)
    root = Path(config.data.root) if config.data.root else None
    return {
        "model": to_plain(config.model),
        "data": data_identity(config.data.name, root, size, channels),
        **_source(config),
    }


def _source(config: Config) -> Mapping[str, Any]:
    file = weights_file(config)
    if file is None:
        return {"train": to_plain(config.pretrain.train), "seed": config.seed}
    try:
        return {"weights": _checksum(file)}
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(
            f"pretrain.source={config.pretrain.source}: {reason}; expected {SOURCES}"
        ) from None


@cache
def _checksum(file: Path) -> str:
    return checksum(file)


def weights_file(config: Config) -> Path | None:
    """The file that the pre-trained weights come from; None: train from scratch."""
    source = config.pretrain.source
    if source == "scratch":
        return None
    if source in ("auto", "bundled"):
        shipped = bundled_weights(config.model.name, config.model.shortcut, config.data.name)
        if shipped is None and source == "bundled":
            raise UsageError(
                f"pretrain.source=bundled: no weights are shipped for {config.model.name} on "
                f"{config.data.name} (shipped: {', '.join(bundled_names()) or 'none'}); "
                "use pretrain.source=scratch"
            )
        return shipped
    return Path(source)


def pruning_tile(config: Config) -> tuple[int, int]:
    """(B_out, B_in) in weights: what the pruning group says, else the target's GEMM tile."""
    tile_out, tile_in = npu_of(config.target).tile
    return config.pruning.tile_out or tile_out, config.pruning.tile_in or tile_in


def prune(config: Config) -> Mapping[str, Any]:
    """The whole pruning group with the tile made concrete.

    A setting that came later is left out at its first value, so that older keys stay valid.
    """
    tile_out, tile_in = pruning_tile(config)
    plain = to_plain(config.pruning)
    if config.pruning.rounding is CountRounding.nearest:
        del plain["rounding"]
    if config.pruning.keep_shift:  # the behaviour from before the setting existed
        del plain["keep_shift"]
    return {**plain, "tile_out": tile_out, "tile_in": tile_in}


def finetune(config: Config) -> Mapping[str, Any]:
    """The recipe and the seed."""
    return {"train": to_plain(config.finetune.train), "seed": config.seed}


def quantize(config: Config) -> Mapping[str, Any]:
    """The whole quantizer but its name: two presets of the same knobs are the same."""
    plain: dict[str, Any] = to_plain(config.quantizer)
    del plain["name"], plain["fusion"]
    return plain


def fuse(config: Config) -> Mapping[str, Any]:
    """What is fused."""
    return {"fusion": config.quantizer.fusion.value}


def simulate(config: Config) -> Mapping[str, Any]:
    """The NPU's geometry and timing, and how many pictures run through the program."""
    return {**npu_of(config.target).identity(), "images": config.simulate.images}
