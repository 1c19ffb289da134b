"""``gpw sweep`` and ``gpw report``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpw_cli.cli.arguments import ConfigDir, DryRun, Json, Overrides
from gpw_cli.cli.completion import complete_stage, complete_sweep
from gpw_cli.cli.console import emit, listener, say
from gpw_cli.cli.pipeline import state_of
from gpw_cli.errors import UsageError
from gpw_cli.stages.names import STAGES

if TYPE_CHECKING:
    from gpw_cli.stages.services import Listener
    from gpw_cli.sweep.plan import PlannedSweep
    from gpw_cli.sweep.run import Executor, Outcome


def sweep(
    overrides: Overrides = None,
    name: Annotated[
        str | None, typer.Option(help="Folder below results/; default: a digest of the sweep.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help=f"The last stage of every run; default: {STAGES[-1]}.",
            autocompletion=complete_stage,
        ),
    ] = None,
    jobs: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="Processes that share the runs; auto: as many as measure fastest; with "
            "--cluster slurm: jobs to submit; default: 1.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|slurm",
            help="Run on a Dask cluster; default: $DASK_SCHEDULER_ADDRESS.",
        ),
    ] = None,
    json: Json = False,
    dry_run: DryRun = False,
    config_dir: ConfigDir = None,
) -> None:
    """A grid: lo:hi[:step] inclusive, comma lists; default axis: block, gpw; dense is added."""
    from gpw_cli.cli.watch import watched
    from gpw_cli.sweep.plan import Request, plan_sweep
    from gpw_cli.sweep.run import run_sweep

    executor, several = _executor(cluster, jobs)
    talk = listener()
    planned = plan_sweep(Request(overrides or [], name, config_dir, until), talk.progress)
    if dry_run:
        _dry_run(planned, talk, json)
    _preflight(planned, talk)
    if dry_run:
        return
    with watched(planned, several=several) as send:
        outcome = run_sweep(planned, send, executor)
    _print_outcome(planned.folder, outcome, _write_report(planned.folder, talk), json)
    for point, error in outcome.failed.items():
        say(f"failed: {point}: {error}")
    if outcome.failed:
        raise typer.Exit(1)


def _print_outcome(folder: Path, outcome: Outcome, files: list[str], json: bool) -> None:
    if json:
        result = {"folder": str(folder), "ran": outcome.ran, "stored": outcome.hits}
        emit({**result, "failed": outcome.failed, "report": files})
        return
    ran, failed = _runs(outcome.ran), len(outcome.failed)
    print(f"{ran} done now, {outcome.hits} from the store, {failed} failed")
    _print_answer(folder)
    print(f"results: {folder / 'results.csv'}")
    print(f"page:    {folder / 'report.html'}")


def _print_answer(folder: Path) -> None:
    from gpw_cli.report.answer import answers, table
    from gpw_cli.report.load import load_sweep

    if rows := answers(load_sweep(folder)):
        print("\n".join(table(rows)))


def _preflight(planned: PlannedSweep, talk: Listener) -> None:
    from gpw_cli.stages.preflight import Wanted, preflight
    from gpw_cli.stages.services import open_services

    store = open_services(planned.points[0].config, talk).store
    preflight([Wanted(point.config, point.steps) for point in planned.points], store)


def _executor(cluster: str | None, jobs: str | None) -> tuple[Executor, bool]:
    """The executor, and whether it runs several processes."""
    from gpw_cli.sweep.cluster import SLURM, on_cluster
    from gpw_cli.sweep.jobs import parse_jobs
    from gpw_cli.sweep.processes import processes

    count = parse_jobs("1" if jobs is None else jobs)
    known = os.environ.get("DASK_SCHEDULER_ADDRESS")
    address = (known if jobs is None else None) if cluster is None else cluster
    if address is None:
        if known:
            say(f"--jobs {jobs}: on this machine, not on DASK_SCHEDULER_ADDRESS={known}")
        return processes(count), count != 1
    if count is None or (jobs is not None and address != SLURM):
        takes = (
            "a number of jobs, not auto" if address == SLURM else "no --jobs: it has its workers"
        )
        raise UsageError(f"--jobs {jobs}: --cluster {address} takes {takes}")
    return on_cluster(address, count), True


def _write_report(folder: Path, talk: Listener) -> list[str]:
    from gpw_cli.report.fresh import is_fresh, mark_fresh

    if is_fresh(folder):
        return []
    talk.message("drawing the report")
    from gpw_cli.report.build import build_report

    files = build_report(folder, talk.message)
    mark_fresh(folder)
    return [str(path) for path in files]


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _dry_run(planned: PlannedSweep, talk: Listener, json: bool) -> None:
    from gpw_cli.stages.services import open_services

    store = open_services(planned.points[0].config, talk).store
    rows = {
        point.id: {step.stage.name: state_of(store, step) for step in point.steps}
        for point in planned.points
    }
    if json:
        emit({"folder": str(planned.folder), "points": rows})
        return
    print(f"{_runs(len(rows))} -> {planned.folder}")
    for point, stages in rows.items():
        print(f"{point}  {'  '.join(f'{stage}: {state}' for stage, state in stages.items())}")


def report(
    sweep: Annotated[
        str | None,
        typer.Argument(
            metavar="[SWEEP]",
            help="A sweep's name or folder; default: every sweep found.",
            autocompletion=complete_sweep,
        ),
    ] = None,
    results: Annotated[Path, typer.Option(help="The folder that holds the sweeps.")] = Path(
        "results"
    ),
    json: Json = False,
) -> None:
    """Make all tables and figures again from the stored results."""
    from gpw_cli.report.build import build_report
    from gpw_cli.report.fresh import mark_fresh, sweep_folders

    written: list[str] = []
    for folder in sweep_folders(results, sweep):
        files = build_report(folder, say)
        mark_fresh(folder)
        written += [str(path) for path in files]
        say(f"{folder}: {len(files)} files")
    if json:
        emit(written)
    else:
        print("\n".join(written))
