"""The arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpw_cli.cli.completion import complete_override

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
