"""``gpw export``: write a network for use without gpw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpw_cli.cli.arguments import ConfigDir, Overrides
from gpw_cli.cli.console import listener, say

if TYPE_CHECKING:
    from gpw_cli.config.schema import Config

EPILOG = "example: gpw export 21e7cd27 --to net.onnx --int8"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("export", epilog=EPILOG)(export)


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="KEY_OR_POINT",
            help="An artifact's key or folder, a file of weights, or a run's file in "
            "results/SWEEP/points.",
        ),
    ],
    to: Annotated[
        Path,
        typer.Option(
            help="net.pt2 (PyTorch), net.safetensors (weights), net.onnx, or a folder for the "
            "target's program."
        ),
    ],
    overrides: Overrides = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="The quantized network (ONNX with QuantizeLinear).")
    ] = False,
    config_dir: ConfigDir = None,
) -> None:
    """Write the pruned network to a file, with masks applied and dead channels removed."""
    from gpw_cli.stages.deliver import check_format, deliver
    from gpw_cli.stages.pipeline import run
    from gpw_cli.stages.program import check_offered
    from gpw_cli.stages.services import open_services

    check_format(to, int8)
    config = _config(source, overrides or [], config_dir)
    if not to.suffix:
        check_offered(config, export=True, trace=False, option="--to")
    services = open_services(config, listener())
    until = "finetune" if to.suffix and not int8 else "fuse"
    artifacts = run(config, services, until)
    deliver(to, config, services, artifacts, int8=int8)
    say(f"wrote {to}")


def _config(source: str, given: list[str], config_dir: Path | None) -> Config:
    """A configuration for which nothing has to be trained."""
    from gpw_cli.config.compose import compose
    from gpw_cli.errors import UsageError
    from gpw_cli.stages.ignored import refuse_ignored
    from gpw_cli.stages.source import checkpoint_overrides
    from gpw_cli.sweep.stored import is_run, stored_run

    if more := [text for text in given if is_run(text)]:
        raise UsageError(
            f"gpw export writes one network; {1 + len(more)} runs are given, {source} and {more[0]}"
            f"{' ...' if more[1:] else ''}: name one of them"
        )
    if is_run(source):
        refuse_ignored(given, "gpw export")
        return stored_run(Path(source)).ready(given, config_dir)
    found = checkpoint_overrides(source, given, config_dir, "gpw export")
    return compose([*found, *given], config_dir)
