"""The ``gpw`` command: registers one file per command group and maps errors to exit codes.

0: done; 1: a stage or a point failed; 2: wrong usage or configuration; 130: interrupted, 143:
terminated (``entry.py``); 141: the reader of the output has closed the pipe.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import typer

from gpw_cli.cli import (
    answer,
    cache,
    completion,
    cycles,
    data,
    export,
    inspect,
    pipeline,
    simulate,
    sweep,
)
from gpw_cli.cli.console import say
from gpw_cli.cli.entry import MESSAGE
from gpw_cli.errors import GpwError, UnsupportedError
from gpw_cli.plugins import blamed

FAILED, USAGE, INTERRUPTED, CLOSED_PIPE = 1, 2, 130, 141
# the base of all usage errors, whose module depends on the version of Typer
TYPER_ERRORS: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,  # ``gpw completion`` also completes values after "="
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which weights of a CNN may go so that a vector-engine NPU really gets faster, and what "
    "it costs in accuracy.",
)
#: Command: its function and the example in its help, in the order of ``gpw --help``.
COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    **{
        name: (function, f"gpw {name} data=digits scheme=gpw sparsity=0.7")
        for name, function in pipeline.commands().items()
    },
    "simulate": (
        simulate.simulate,
        "gpw simulate sparsity=0.7 --images 1000 --trace trace.json",
    ),
    "cycles": (cycles.cycles, "gpw cycles model=resnet50 data.size=224 sparsity=0.7"),
    "sweep": (sweep.sweep, "gpw sweep sparsity=0.5:0.9 data=digits"),
    "report": (sweep.report, "gpw report paper_gpw"),
    "pick": (answer.pick, "gpw pick frontier --max-ms 0.8"),
    "compare": (answer.compare, "gpw compare paper_gpw frontier"),
    "export": (export.export, "gpw export 21e7cd27 --to net.onnx --int8"),
    "ls": (inspect.ls, "gpw ls --json"),
    "config": (inspect.config, "gpw config model=resnet56 sparsity=0.7"),
    "completion": (completion.completion, 'eval "$(gpw completion bash)"'),
}
for command, (function, example) in COMMANDS.items():
    app.command(command, epilog=f"example: {example}")(function)
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


def run() -> int:
    """Run the command of ``sys.argv``; returns the exit code. KeyboardInterrupt passes through."""
    output = sys.stdout
    completion.prepare()
    try:
        code = app(standalone_mode=False, prog_name="gpw")
        sys.stdout.flush()
    except SystemExit:
        if sys.stdout is output:
            raise
        return _deaf()  # Typer replaces stdout after a closed pipe
    except UnsupportedError as error:  # a line for each unsupported operator
        return _refused(str(error), error.exit_code, lines=True)
    except GpwError as error:
        return _refused(str(error), error.exit_code)
    except TYPER_ERRORS as error:
        return _described(error)
    except BrokenPipeError:
        return _deaf()
    except OSError as error:
        if not _is_output(error):
            return _at_fault(error)
        _deaf()
        return _refused(f"cannot write the output: {error.strerror}", FAILED)
    except Exception as error:
        return _at_fault(error)
    if code == INTERRUPTED:  # from Typer after Ctrl-C
        raise KeyboardInterrupt
    return int(code or 0) if isinstance(code, int) else 0


def main() -> None:
    """``run`` and exit; a Ctrl-C is 130."""
    try:
        sys.exit(run())
    except KeyboardInterrupt:
        sys.exit(_refused(MESSAGE.removeprefix("gpw: "), INTERRUPTED))


def _refused(message: str, code: int, *, lines: bool = False) -> int:
    """Print the message on stderr, joined to one line unless ``lines``; returns ``code``."""
    parts = message.split("\n") if lines else [message]
    say("gpw: " + "\n".join("".join(map(_visible, part)) for part in parts))
    return code


def _at_fault(error: Exception) -> int:
    """Report an error of a plug-in in one line; other errors are raised with a traceback."""
    if (message := blamed(error)) is None:
        raise error
    return _refused(message, USAGE)


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()


def _described(error: Exception) -> int:
    """Report a usage error of Typer in one line, with a hint to the help."""
    shown = getattr(error, "format_message", lambda: str(error))().strip().rstrip(".")
    if not shown:  # without arguments, Typer has printed the help
        return USAGE
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "gpw"
    if path.startswith(("gpw data", "gpw cache")) and "runtime.root=" in shown:
        shown += "; for runtime.root=FOLDER use --store FOLDER"
    return _refused(f"{shown} (`{path} --help` shows what is allowed)", USAGE)


def _is_output(error: OSError) -> bool:
    """Whether the error is from writing stdout, not from one of our files."""
    try:
        sys.stdout.flush()
    except OSError as again:
        return again.errno == error.errno
    return error.filename is None and error.errno == errno.ENOSPC


def _deaf() -> int:
    """The reader of stdout is gone: discard what is still in the buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    return CLOSED_PIPE
