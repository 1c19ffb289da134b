"""VTA's own configuration files: the JSON that its hardware and its compiler are built from.

    spec = spec_from_json("vta_config.json")
    config_of(spec)["LOG_BLOCK"]            # 4

Source: VTA's ``config/*.json``. Sizes and widths are in log2, as the names of their keys say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.isa.geometry import VtaSpec

_MAX_BYTES = 1 << 20
_LOG_KEYS = (
    "LOG_INP_WIDTH",
    "LOG_WGT_WIDTH",
    "LOG_ACC_WIDTH",
    "LOG_BATCH",
    "LOG_UOP_BUFF_SIZE",
    "LOG_INP_BUFF_SIZE",
    "LOG_WGT_BUFF_SIZE",
    "LOG_ACC_BUFF_SIZE",
)


def spec_from_json(path: str | Path) -> VtaSpec:
    """A VTA with the geometry of a JSON file. Raises UnsupportedError if it cannot be read."""
    file = Path(path)
    try:
        if file.exists() and not file.is_file():
            raise ValueError("no regular file")
        if file.stat().st_size > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES} bytes")
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnsupportedError(f"VTA configuration {path}: {error}") from error
    if not isinstance(config, dict):
        raise UnsupportedError(f"VTA configuration {path}: not a JSON object")
    return spec_from_config(config)


def spec_from_config(
    config: Mapping[str, Any], *, mul: bool = False, acc_8bit: bool = False
) -> VtaSpec:
    """A VTA with the keys of VTA's JSON; LOG_BLOCK_IN and LOG_BLOCK_OUT override LOG_BLOCK.

    Raises UnsupportedError for a key that is missing, and for a size or width that is not a small
    non-negative integer.
    """
    log = {name.lower(): _integer(config, name) for name in _LOG_KEYS}
    out_width = config.get("LOG_OUT_WIDTH", log["log_inp_width"])
    if out_width != log["log_inp_width"]:
        raise UnsupportedError(
            f"VTA geometry: LOG_OUT_WIDTH={out_width!r}, must equal LOG_INP_WIDTH"
        )
    return VtaSpec(
        target=_text(config, "TARGET"),
        hw_ver=_text(config, "HW_VER"),
        log_block_in=_integer(config, "LOG_BLOCK_IN", "LOG_BLOCK"),
        log_block_out=_integer(config, "LOG_BLOCK_OUT", "LOG_BLOCK"),
        mul=mul,
        acc_8bit=acc_8bit,
        **log,
    )


def config_of(spec: VtaSpec) -> dict[str, str | int]:
    """The keys of VTA's JSON; LOG_BLOCK_IN and LOG_BLOCK_OUT only where they differ."""
    blocks = {"LOG_BLOCK_IN": spec.log_block_in, "LOG_BLOCK_OUT": spec.log_block_out}
    if spec.log_block_in == spec.log_block_out:
        blocks = {"LOG_BLOCK": spec.log_block_in}
    config: dict[str, str | int] = {"TARGET": spec.target, "HW_VER": spec.hw_ver}
    return config | {name: getattr(spec, name.lower()) for name in _LOG_KEYS} | blocks


def _text(config: Mapping[str, Any], name: str) -> str:
    if name not in config:
        raise UnsupportedError(f"VTA geometry: {name} is missing")
    return str(config[name])


def _integer(config: Mapping[str, Any], *names: str) -> int:
    """The value of the first of ``names`` that ``config`` has."""
    for name in names:
        if name in config:
            value = config[name]
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 32:
                raise UnsupportedError(
                    f"VTA geometry: {name}={value!r}, allowed are integers from 0 to 31"
                )
            return value
    raise UnsupportedError(f"VTA geometry: {names[-1]} is missing")
