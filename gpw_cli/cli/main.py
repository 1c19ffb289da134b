"""The ``gpw`` command: registers one file a command group, and maps errors to exit codes.

0 done; 1 a stage or a point failed; 2 usage or configuration; 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from gpw_cli.cli import answer, cache, cycles, data, export, inspect, pipeline, simulate, sweep
from gpw_cli.cli.console import say
from gpw_cli.errors import GpwError

INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which weights of a CNN may go so that a vector-engine NPU really gets faster, and what "
    "it costs in accuracy.",
)
for group in (pipeline, simulate, cycles, sweep, answer, export, inspect):
    group.register(app)
app.add_typer(data.app, name="data")
app.add_typer(cache.app, name="cache")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("gpw"))
        raise typer.Exit


@app.callback()
def callback(
    shown: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command."""


def _interrupted() -> NoReturn:
    say("gpw: interrupted; the same command goes on from the last finished epoch")
    sys.exit(INTERRUPTED)


def main() -> None:
    """The console script."""
    try:
        app()
    except GpwError as error:
        say(f"gpw: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # Typer's own answer to Ctrl-C says nothing
            _interrupted()
        raise
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
