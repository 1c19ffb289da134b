"""The arguments that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer


def complete_override(incomplete: str) -> Iterable[str]:
    """Shell completion of ``group=``, its options, and configuration keys."""
    from gpw_cli.config.compose import SHORT
    from gpw_cli.config.composed import GROUPS
    from gpw_cli.config.paths import options

    name, sign, value = incomplete.partition("=")
    group = {"scheme": "pruning"}.get(name, name)
    if sign and group in GROUPS:
        return [f"{name}={option}" for option in options(group) if option.startswith(value)]
    return [f"{key}=" for key in (*SHORT, *GROUPS, "seed") if key.startswith(incomplete)]


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="key=value, as in model=resnet56 sparsity=0.7 data=digits; see `gpw config`",
        metavar="[KEY=VALUE]...",
        autocompletion=complete_override,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print every stage and whether the store has it; run nothing."),
]
ConfigDir = Annotated[
    Path | None,
    typer.Option("--config-dir", help="A folder with your own options (model/, train/, ...)."),
]
