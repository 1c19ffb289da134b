"""A sweep as data: its points with the keys of their artifacts, and its folder.

sweep = plan_sweep(Request(["sparsity=0.5:0.9"]))
sweep.folder            # results/resnet20-cifar10-3f2a9c01, from a digest of its content
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpw_cli.config.compose import compose
from gpw_cli.config.grid import dense_beside, expand, in_order, overlaid, overridden, product
from gpw_cli.config.schema import Config
from gpw_cli.errors import UsageError
from gpw_cli.models.onnx_file import is_onnx
from gpw_cli.models.own import absolute, is_own
from gpw_cli.stages.ignored import refuse_idle_everywhere
from gpw_cli.stages.pipeline import Step, plan
from gpw_cli.store.files import clear_partials, write_text
from gpw_cli.store.keys import digest
from gpw_cli.store.records import BadRecord, read_sweep
from gpw_cli.store.seal import sealed

VERSION = 1
MAX_POINTS = 100_000
TOLD = 200  # points between two progress reports
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Point:
    """One combination of a grid; ``overrides`` compose its configuration in any process."""

    id: str
    axes: dict[str, str]
    overrides: tuple[str, ...]
    config: Config
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Request:
    """The user's request; enough to plan the same sweep in another process."""

    overrides: list[str]
    name: str | None = None
    config_dir: Path | None = None
    until: str | None = None  # None: the experiment's, else the last stage


@dataclass(frozen=True)
class PlannedSweep:
    """A planned sweep: all points of its grids, in order."""

    request: Request
    name: str
    folder: Path
    overrides: list[str]
    grids: list[dict[str, list[str]]]
    points: list[Point]

    def manifest(self) -> dict[str, Any]:
        """The content of ``sweep.json``, without times and without paths of this machine."""
        points = [
            {
                "id": point.id,
                "axes": point.axes,
                "keys": {step.stage.name: step.key for step in point.steps},
            }
            for point in self.points
        ]
        return {
            "version": VERSION,
            "name": self.name,
            "overrides": self.overrides,
            "grids": self.grids,
            "points": points,
        }


def _refuse_few_images(config: Config) -> None:
    """Networks of a sweep are compared, the dense one too, hence over the same images."""
    if config.evaluate.images:
        raise UsageError(
            f"evaluate.images={config.evaluate.images} is for gpw run and gpw simulate; a sweep "
            "evaluates all test images (simulate.images=N simulates fewer)"
        )


def plan_sweep(
    request: Request, progress: Progress = lambda what, done, total: None
) -> PlannedSweep:
    """Expand the grids, compose all points and compute their keys; nothing runs.

    progress: called every ``TOLD`` points of a large sweep. Raises UsageError for bad overrides and
    for more than ``MAX_POINTS`` points.
    """
    fixed, axes = expand(request.overrides)
    first_point = [*fixed, *(f"{key}={found[0]}" for key, found in axes.items())]
    common = compose(in_order(first_point), request.config_dir)  # an axis may be required
    _refuse_few_images(common)
    experiment = common.sweep
    quantized, shared = common.finetune.quantized, common.finetune.shared.bits
    trained = {"finetune.quantized": str(quantized), "finetune.shared.bits": str(shared)}
    grids = overlaid(experiment.grids, fixed, axes) or [axes]
    until = request.until or experiment.until
    _refuse_endless(grids)
    axes_of_points = [axis for grid in grids for axis in product(grid, trained)]
    combined = {tuple(sorted(axis.items())): axis for axis in axes_of_points}
    points: list[Point] = []
    for axis in combined.values():
        points.append(_point(fixed, axis, request.config_dir, until))
        if len(points) % TOLD == 0:
            progress("planning: runs", len(points), len(combined))
    refuse_idle_everywhere([(p.config, p.overrides) for p in points], request.overrides)
    content = digest({"keys": [point.steps[-1].key for point in points], "grids": grids})
    if not experiment.grids:  # an experiment is what its file says
        points = [*_missing_dense(fixed, points, trained, request, until), *points]
    first = points[0].config
    shown = [text for text in fixed if not text.startswith(("runtime.", "data.root"))]
    network = re.sub(r"[^A-Za-z0-9._+-]+", "-", Path(first.model.name).name)  # FILE.py:NAME
    default = experiment.name or f"{network}-{first.data.name}-{content[:8]}"
    name = _checked(default if request.name is None else request.name)
    return PlannedSweep(request, name, Path(first.runtime.results) / name, shown, grids, points)


def _missing_dense(
    fixed: list[str],
    points: Sequence[Point],
    trained: Mapping[str, str],
    request: Request,
    until: str,
) -> list[Point]:
    """The dense networks to compare ``points`` with that are not among them; equal ones once."""
    found: dict[str, Point] = {}
    ends = {point.steps[-1].key for point in points}  # up to pretrain all networks are dense
    for axis in dense_beside([point.axes for point in points], trained):
        dense = _point(fixed, axis, request.config_dir, until)
        if (key := dense.steps[-1].key) not in ends:
            found.setdefault(key, dense)
    return list(found.values())


def _refuse_endless(grids: Sequence[Mapping[str, Sequence[str]]]) -> None:
    count = sum(math.prod(len(found) for found in grid.values()) for grid in grids)
    if count > MAX_POINTS:
        raise UsageError(f"the grid has {count:,} runs; a sweep has at most {MAX_POINTS:,}")


def _point(fixed: list[str], axis: dict[str, str], config_dir: Path | None, until: str) -> Point:
    overrides = overridden(fixed, axis)
    config = compose(overrides, config_dir)
    shown = ",".join(f"{key}={value}" for key, value in axis.items()) or "run"
    safe = re.sub(r"[^A-Za-z0-9=,._+-]", "_", shown)
    anywhere = tuple(_anywhere(text) for text in overrides)
    return Point(safe, axis, anywhere, config, tuple(plan(config, until)))


def _anywhere(override: str) -> str:
    """``override`` with the absolute path of the user's own network, for other processes."""
    name, _, value = override.partition("=")
    if name == "model" and is_own(value):
        return f"model={absolute(value)}"
    return f"model={Path(value).resolve()}" if name == "model" and is_onnx(value) else override


def _checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", name):
        raise UsageError(f"--name {name}: use letters, digits, '.', '_', '+' and '-' only")
    return name


def claim_folder(sweep: PlannedSweep) -> None:
    """Write ``sweep.json`` with its checksum; UsageError if the folder holds another sweep.

    The same sweep, a sweep with more points, and the same command of a newer gpw may use the folder
    again. Points whose keys have changed then count as not finished (``report/load.py``).
    """
    file = sweep.folder / "sweep.json"
    try:
        old = read_sweep(file)
        before, commanded = _keys(old), old["overrides"]
    except (FileNotFoundError, NotADirectoryError):
        before, commanded = {}, sweep.overrides
    except (BadRecord, KeyError) as error:
        raise UsageError(
            f"{file} is not a sweep of gpw, or was edited ({error}); choose another --name, or "
            "remove the file"
        ) from None
    _refuse_others(sweep, before, commanded)
    write_text(file, sealed(sweep.manifest()))
    for folder in (sweep.folder, sweep.folder / "points"):
        clear_partials(folder)


def _refuse_others(
    sweep: PlannedSweep, before: dict[str, dict[str, str]], commanded: list[str]
) -> None:
    """Raise UsageError if the points ``before``, run with ``commanded``, are not of ``sweep``."""
    now = _keys(sweep.manifest())
    if lost := before.keys() - now.keys():
        raise UsageError(
            f"{sweep.folder} holds another sweep ({len(lost)} of its runs, like {min(lost)}, are "
            "not in this one); choose another --name"
        )
    other = [
        point
        for point, keys in before.items()
        if any(now[point].get(stage, key) != key for stage, key in keys.items())
    ]
    if other and commanded != sweep.overrides:
        raise UsageError(
            f"{sweep.folder} holds {len(other)} runs, like {min(other)}, with other settings "
            f"({' '.join(commanded) or 'no overrides'}); choose another --name"
        )


def _keys(manifest: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Point id -> stage -> key."""
    return {point["id"]: point["keys"] for point in manifest["points"]}
