"""``gpw simulate``: the last stage of the pipeline, also for a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpw_cli.cli.arguments import ConfigDir, DryRun, Json, Overrides
from gpw_cli.cli.console import emit, fact, listener, say
from gpw_cli.cli.pipeline import print_answer, print_metrics, print_plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gpw_cli.config.schema import Config
    from gpw_cli.store.store import Artifact

_BUSY = "_utilisation"  # of a unit: stages/simulate.py
_SHARED = (
    "n_test",
    "pictures_per_run",
    "cycles",
    "dense_cycles",
    "bound_cycles",
    "dram_bytes",
    "accuracy_of",
)


def simulate(
    overrides: Overrides = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="Weights to simulate as they are: a safetensors or PyTorch file, an artifact's "
            "folder, or its key (a unique prefix is enough)."
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Test images to evaluate and run, from quantize on; 0, the default: all. Stages "
            "that train, and prune, evaluate all: their artifacts are kept.",
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write insn.bin, dram.bin, expected.bin, manifest.json.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write a trace for Perfetto or chrome://tracing.")
    ] = None,
    json: Json = False,
    dry_run: DryRun = False,
    config_dir: ConfigDir = None,
) -> None:
    """Run the network as its NPU does, bit for bit on VTA, and count the cycles."""
    from gpw_cli.stages.pipeline import plan, run
    from gpw_cli.stages.preflight import Wanted, preflight
    from gpw_cli.stages.services import open_services

    config = _config(overrides or [], checkpoint, images, config_dir)
    services = open_services(config, listener())
    steps = plan(config)
    if dry_run:
        print_plan(steps, services.store, json)
    preflight([Wanted(config, steps)], services.store)
    if dry_run:
        return
    if export is not None or trace is not None:
        from gpw_cli.stages.program import check_offered

        check_offered(config, export=export is not None, trace=trace is not None)
    with services.store.using(step.key for step in plan(config)):
        artifacts = run(config, services)
        files = _extra(config, services, artifacts, export, trace)
    if json:
        found = {n: {"key": a.key, "metrics": a.metrics} for n, a in artifacts.items()}
        emit({**found, "files": [str(file) for file in files]})
        return
    print_metrics(artifacts)
    print_answer(artifacts)
    _print_cycles(config.target.name, artifacts["simulate"].metrics)
    for file in files:
        say(f"wrote {file}")


def _config(
    overrides: Sequence[str], checkpoint: str | None, images: int | None, config_dir: Path | None
) -> Config:
    """The configuration of the options ``--checkpoint`` and ``--images`` with ``overrides``."""
    from gpw_cli.config.compose import compose
    from gpw_cli.stages.ignored import refuse_idle
    from gpw_cli.stages.source import checkpoint_overrides

    given = list(overrides)
    if checkpoint is not None:
        given = [*checkpoint_overrides(checkpoint, given, config_dir), *given]
    if images is not None:
        given += [f"evaluate.images={images}", f"simulate.images={images}"]
    config = compose(given, config_dir)
    refuse_idle(config, overrides)
    return config


def _extra(
    config: Config,
    services: Any,
    artifacts: Mapping[str, Artifact],
    export: Path | None,
    trace: Path | None,
) -> list[Path]:
    if export is None and trace is None:
        return []
    from gpw_cli.stages.program import export_to, trace_to

    files = []
    if export is not None:
        export_to(export, config, services, artifacts)
        files.append(export)
    if trace is not None:
        trace_to(trace, config, artifacts)
        files.append(trace)
    return files


def _print_cycles(target: str, metrics: Mapping[str, Any]) -> None:
    """Print a run in one line: common metrics, then the units and counts of the target."""
    over = metrics["cycles"] / metrics["bound_cycles"] - 1
    images = metrics.get("pictures_per_run", 1)
    run = f" for {images} images" if images > 1 else ""
    parts = [
        f"{target}: {metrics['cycles']:,} cycles{run} ({metrics['milliseconds']:.3f} ms at "
        f"{metrics['clock_mhz']:g} MHz), {100 * over:.1f} % above the bound of the hardware",
        *_units(metrics),
        f"{metrics['dram_bytes']:,} DRAM bytes",
        *(fact(name, metrics[name]) for name in _own(metrics)),
    ]
    if "accuracy_of" in metrics:
        parts.append(f"accuracy of the {metrics['accuracy_of']}")
    print("; ".join(parts))
    passes = metrics.get("cycles_by_pass", {})
    if passes:
        print(f"cycles by pass: {', '.join(f'{k} {v:,}' for k, v in passes.items() if v)}")


def _units(metrics: Mapping[str, Any]) -> Iterator[str]:
    """``GEMM busy 76.8 %`` for each unit."""
    for name, value in metrics.items():
        if name.endswith(_BUSY):
            yield f"{name.removesuffix(_BUSY).upper().replace('_', ' ')} busy {100 * value:.1f} %"


def _own(metrics: Mapping[str, Any]) -> list[str]:
    """Counts and remarks that only this target has."""
    names = [name for name, value in metrics.items() if type(value) in (int, str)]
    return [name for name in names if name not in _SHARED]
