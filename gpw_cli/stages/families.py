"""Whether torchvision's families compile for a target, tried with one small network of each.

for family, reason in refusals(["target=nvdla_small"]):     # "" if it compiles
    print(family, reason or "compiles")

A family whose operators gpw does not know is refused for every target, so the measured table
(models/families.py) answers for it. The others are traced, quantized and compiled with random
weights, a few seconds each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpw_cli.config.compose import compose
from gpw_cli.errors import CheckpointError, UnsupportedError, UsageError
from gpw_cli.models.families import FAMILIES, load_checked
from gpw_cli.targets.registry import npu_of

CLASSES = 1000


def is_tabled(overrides: Sequence[str], config_dir: Path | None = None) -> bool:
    """Whether the table is of the target that ``overrides`` choose: the default one."""
    usual, own = (npu_of(compose(given, config_dir).target) for given in ([], overrides))
    return type(own) is type(usual) and own.identity() == usual.identity()


def refusals(overrides: Sequence[str], config_dir: Path | None = None) -> Iterator[tuple[str, str]]:
    """(family, why it does not compile for the target of ``overrides``, or "")."""
    known = load_checked()
    for family in FAMILIES:
        unknown = known[family].refused if family in known else ""
        yield family, unknown or _refused(family, overrides, config_dir)


def _refused(family: str, overrides: Sequence[str], config_dir: Path | None) -> str:
    from gpw_cli.stages.untrained import integers_untrained, untrained_network

    _, network, pixels = FAMILIES[family]
    config = compose([*overrides, f"model={network}", f"data.size={pixels}"], config_dir)
    try:
        model = untrained_network(config, CLASSES)
        npu_of(config.target).compile(integers_untrained(config, model)).time()
    except (UnsupportedError, UsageError, CheckpointError) as error:
        return operators(str(error))
    return ""


def operators(message: str) -> str:
    """The operators that an error names, or its first line."""
    names = re.findall(r"operator (\w+?)_? at ", message)
    return ", ".join(dict.fromkeys(names)) or message.splitlines()[0]
