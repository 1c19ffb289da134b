"""From a target's configuration to VTA's geometry.

spec = spec_of(load_target("vta"))
spec = spec_of(TargetConfig(config_file="vta_config.json"))     # VTA's own JSON
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from gpw_cli.config.target import TargetConfig
from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.spec import VtaSpec


def spec_of(target: TargetConfig) -> VtaSpec:
    """The geometry of ``config_file`` where one is named, else of ``vta``.

    Raises UnsupportedError for a file that is no VTA configuration and for a geometry that the
    instructions cannot express.
    """
    config = {key: value for key, value in asdict(target.vta).items() if value is not None}
    if target.config_file is not None:
        try:
            config = json.loads(Path(target.config_file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnsupportedError(f"VTA configuration {target.config_file}: {error}") from error
        if not isinstance(config, dict):
            raise UnsupportedError(f"VTA configuration {target.config_file}: not a JSON object")
    return VtaSpec.from_config(config, mul=target.mul, acc_8bit=target.acc_8bit)
