"""What a sweep leaves in its folder: ``sweep.json`` and a file a point, all sealed.

    manifest = read_sweep(folder / "sweep.json")        # raises BadRecord
    record = read_point(folder / "points" / "sparsity=0.5.json")
    referenced([Path("results")])                       # keys of artifacts

A reader may rely on the types of everything that is checked here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpw_cli.errors import UsageError
from gpw_cli.store.seal import Damaged, Opened, opened

STATES = ("done", "failed")
_OPTIONAL = {"axes": dict, "keys": dict}  # of a planned point
_LISTS = ("layers", "history")  # of a stage: a row each


class BadRecord(Exception):
    """What is wrong with a file, in a few words."""


def _opened(file: Path) -> Opened:
    """Raises FileNotFoundError, and BadRecord for anything else."""
    try:
        if not file.is_file() and file.exists():
            raise BadRecord("is no file")
        return opened(file.read_bytes())
    except FileNotFoundError:
        raise
    except Damaged as error:
        raise BadRecord(str(error)) from None
    except OSError as error:
        raise BadRecord(error.strerror or type(error).__name__) from None


def read_sweep(file: Path) -> dict[str, Any]:
    """The content of a ``sweep.json``; raises FileNotFoundError and BadRecord.

    One from before they were sealed is taken as it is; the next ``gpw sweep`` seals it.
    """
    content = _opened(file).content
    points = content.get("points")
    if not isinstance(points, list):
        raise BadRecord("it has no list of points")
    for point in points:
        if not isinstance(point, dict) or not _is_name(point.get("id")):
            raise BadRecord("a point has no id")
        for name, kind in _OPTIONAL.items():
            if not isinstance(point.get(name, {}), kind):
                raise BadRecord(f"{name} of the point {point['id']} is no mapping")
        if not all(isinstance(key, str) for key in point.get("keys", {}).values()):
            raise BadRecord(f"the point {point['id']} has a key that is no text")
    overrides = content.get("overrides", [])
    if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
        raise BadRecord("its overrides are no list of texts")
    return content


def _is_name(value: object) -> bool:
    """Whether it can be the name of a file, and of no other folder's."""
    return isinstance(value, str) and len(value) > 0 and "/" not in value and "\0" not in value


def read_point(file: Path) -> dict[str, Any]:
    """The record of a point; raises FileNotFoundError and BadRecord.

    A record from before records were sealed is taken as it is.
    """
    record = _opened(file).content
    if record.get("status") not in STATES:
        raise BadRecord("not a record that `gpw sweep` wrote")
    for part in ("stages", "axes"):
        if not isinstance(record.get(part, {}), dict):
            raise BadRecord(f"{part} is no mapping")
    for name, stage in record.get("stages", {}).items():
        if not isinstance(stage, dict) or not isinstance(stage.get("key", ""), str):
            raise BadRecord(f"the stage {name} is no mapping with a key")
        _check_stage(name, stage)
    return record


def _check_stage(name: str, stage: dict[str, Any]) -> None:
    metrics = stage.get("metrics", {})
    if not isinstance(metrics, dict):
        raise BadRecord(f"the metrics of {name} are no mapping")
    for part in _LISTS:
        rows = stage.get(part) or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadRecord(f"{part} of {name} is no list of rows")


def referenced(folders: Iterable[Path]) -> set[str]:
    """Keys that any sweep in ``folders`` refers to, by its plan or by a finished point.

    Raises UsageError where that cannot be known: no such folder, no sweep in it, a file of a sweep
    that does not read.
    """
    keys: set[str] = set()
    for folder in folders:
        sweeps = [*folder.glob("*/sweep.json")]
        if not sweeps:
            raise UsageError(
                f"--results {folder}: no sweep is there, so nothing would be kept; name the folder "
                "that holds your sweeps, or remove every artifact with --all"
            )
        for file in sweeps:
            for point in _known(file)["points"]:
                keys.update(point.get("keys", {}).values())
        for file in folder.glob("*/points/*.json"):
            stages = _known(file, point=True).get("stages", {}).values()
            keys.update(stage["key"] for stage in stages if "key" in stage)
    return keys


def _known(file: Path, *, point: bool = False) -> dict[str, Any]:
    try:
        return read_point(file) if point else read_sweep(file)
    except (FileNotFoundError, BadRecord) as error:
        raise UsageError(
            f"{file} does not read, so what it refers to is not known ({error}); "
            "remove it, or run its sweep again"
        ) from None
