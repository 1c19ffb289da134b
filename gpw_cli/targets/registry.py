"""Which NPU a configuration describes. The only file outside ``vta/`` that names VTA's package.

npu_of(load_target("vta_pynq")).tile      # (16, 16)
"""

from __future__ import annotations

from gpw_cli.config.target import TargetConfig
from gpw_cli.targets.base import Npu
from gpw_cli.targets.vta.target import Vta, spec_of


def npu_of(target: TargetConfig) -> Npu:
    """VTA, the one family so far; another is told apart by its fields in ``TargetConfig``.

    Raises UnsupportedError for a geometry that the NPU's instructions cannot express.
    """
    return Vta(spec_of(target), target.timing)
