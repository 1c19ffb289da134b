"""``gpw pick`` and ``gpw compare``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpw_cli.cli.arguments import Json
from gpw_cli.cli.completion import complete_sweep
from gpw_cli.cli.console import emit
from gpw_cli.errors import UsageError

if TYPE_CHECKING:
    from gpw_cli.report.answer import Answer
    from gpw_cli.report.load import Sweep

Folder = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP", help="A sweep's name or folder.", autocompletion=complete_sweep
    ),
]
Results = Annotated[Path, typer.Option(help="The folder that holds the sweeps.")]


def pick(
    sweep: Folder,
    max_ms: Annotated[
        float | None, typer.Option(min=0, help="Milliseconds of one image at the target's clock.")
    ] = None,
    max_cycles: Annotated[float | None, typer.Option(min=0, help="Cycles of one image.")] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Percent; the fastest network that reaches it."),
    ] = None,
    results: Results = Path("results"),
    json: Json = False,
) -> None:
    """The best network of a sweep within limits, and the command that exports it."""
    from gpw_cli.report.answer import answers, table
    from gpw_cli.report.answer import pick as best_of

    loaded = _loaded(sweep, results)
    rows = answers(loaded)
    best = best_of(rows, max_ms=max_ms, max_cycles=max_cycles, min_accuracy=min_accuracy)
    if best is None:
        raise UsageError(_nothing(loaded, rows))
    command = export_command(loaded, best)
    if json:
        emit({**asdict(best), "export": command})
        return
    print("\n".join(table([best])))
    heads = {"gpw export": "export", "gpw run": "train (its weights are not here)"}
    start = " ".join(command.split()[:2])
    print(f"{heads.get(start, 'export (trains it, its weights are not here)')}: {command}")


def compare(
    first: Folder, second: Folder, results: Results = Path("results"), json: Json = False
) -> None:
    """Compare two sweeps, and the networks that both contain."""
    from gpw_cli.report.answer import answers, table
    from gpw_cli.report.counted import apart

    names, loaded = (first, second), [_loaded(name, results) for name in (first, second)]
    found = [answers(sweep) for sweep in loaded]
    if json:
        emit({n: [asdict(row) for row in rows] for n, rows in zip(names, found, strict=True)})
        return
    for name, rows in zip(names, found, strict=True):
        print(f"{name}:")
        print("\n".join(f"  {line}" for line in table(rows)))
    before = {(row.name, row.network): row for row in found[0]}
    both = [(row, before.get((row.name, row.network))) for row in found[1]]
    for row, other in both:
        if other is not None:
            print(_difference(row, other, second, first))
    if not any(other for _, other in both):
        print(f"no network is in both: {_only(found[0], first)}; {_only(found[1], second)}")
    elif note := apart(first, loaded[0], second, loaded[1]):
        print(note)


def _only(rows: Sequence[Answer], sweep: str) -> str:
    networks = dict.fromkeys(row.network for row in rows)
    return f"{sweep} has {' and '.join(networks) or 'none that is finished'}"


def _difference(row: Answer, other: Answer, here: str, there: str) -> str:
    text = (
        f"{row.name}: {here} {row.accuracy - other.accuracy:+.2f} percentage points against {there}"
    )
    if row.of != other.of:
        text += f" ({row.of or 'on the NPU'} against {other.of or 'on the NPU'})"
    if row.cycles and other.cycles:
        text += f", {row.cycles - other.cycles:+,.0f} cycles"
    return text


def _loaded(name: str, results: Path) -> Sweep:
    from gpw_cli.report.fresh import sweep_folders
    from gpw_cli.report.load import load_sweep

    (folder,) = sweep_folders(results, name)
    return load_sweep(folder)


def _nothing(sweep: Sweep, rows: list[Answer]) -> str:
    timed = [r for r in rows if r.cycles is not None and r.milliseconds is not None and not r.cut]
    if not timed:
        return f"{sweep.folder} has no finished network with cycles; run the sweep to its end first"
    fastest = min(timed, key=lambda row: row.milliseconds or 0.0)
    best = max(timed, key=lambda row: row.accuracy)
    return (
        f"no network of {sweep.folder} is within these limits: the fastest takes "
        f"{fastest.milliseconds:.3f} ms ({fastest.cycles:,.0f} cycles, {fastest.accuracy:.2f} %), "
        f"the most accurate has {best.accuracy:.2f} % ({best.milliseconds:.3f} ms)"
    )


def export_command(sweep: Sweep, answer: Answer) -> str:
    """The command line that exports the first network of ``answer`` whose weights are there.

    If there is none, it is the one that trains the first network again, and exports the program
    where the target has one.
    """
    from gpw_cli.stages.program import offers_program
    from gpw_cli.sweep.stored import stored_run

    runs = [stored_run(sweep.folder / "points" / f"{name}.json") for name in answer.ids]
    for run in runs:
        with suppress(UsageError):
            to = "program/" if offers_program(run.ready()) else "net.pt2"
            return shlex.join(["gpw", "export", str(run.file), "--to", to])
    if not offers_program(runs[0].config):
        return runs[0].command
    return shlex.join(["gpw", "simulate", *runs[0].useful, "--export", "program/"])
