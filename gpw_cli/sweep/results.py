"""The record of a finished point in ``results/<sweep>/points``, from which reports are made.

A record holds no times, so the same point always gives the same bytes. Each file has a checksum of
its content (``store/seal.py``); an edited file counts as missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpw_cli.config.compose import to_plain
from gpw_cli.errors import UsageError
from gpw_cli.pruning.groups import Scheme
from gpw_cli.store.files import write_text
from gpw_cli.store.records import BadRecord, read_point
from gpw_cli.store.seal import sealed
from gpw_cli.store.store import Artifact
from gpw_cli.sweep.plan import Point

# file in an artifact -> name in the record
LISTS = {"layers.json": "layers"}
HISTORY = "metrics.jsonl"


def point_file(folder: Path, point: Point) -> Path:
    """The path of the record of ``point``."""
    return folder / "points" / f"{point.id}.json"


def done_record(point: Point, artifacts: Mapping[str, Artifact]) -> dict[str, Any]:
    """The record of a finished point, from its artifacts."""
    stages = {name: _stage(artifact) for name, artifact in artifacts.items()}
    counted = [stage["metrics"].get("n_test") for stage in stages.values()]
    record: dict[str, Any] = {"status": "done", "error": None, "n_test": counted[-1]}
    record["stages"] = stages
    return {**_head(point), **record}


def failed_record(point: Point, error: str, exit_code: int) -> dict[str, Any]:
    """The record of a failed point, which the next sweep runs again; exit_code: see errors.py."""
    record: dict[str, Any] = {"status": "failed", "error": error, "exit_code": exit_code}
    return {**_head(point), **record, "n_test": None, "stages": {}}


def write_record(folder: Path, point: Point, record: Mapping[str, Any]) -> None:
    """Write the record of ``point`` with its checksum."""
    write_text(point_file(folder, point), sealed(record))


def last_accuracy(artifacts: Mapping[str, Artifact]) -> float | None:
    """Test accuracy in percent of the last stage that measured one."""
    found = [artifact.metrics.get("test_accuracy") for artifact in artifacts.values()]
    return next((value for value in reversed(found) if value is not None), None)


def status(folder: Path, point: Point) -> tuple[str, str | None]:
    """("done" | "failed" | "open", error message) from the record of a point."""
    try:
        record = read_point(point_file(folder, point))
    except (FileNotFoundError, BadRecord):
        return "open", None
    return str(record["status"]), record.get("error")


def bad_input(folder: Path, point: Point) -> bool:
    """Whether a point failed because of bad input, and so will fail again."""
    record = read_point(point_file(folder, point))
    return bool(record.get("exit_code") == UsageError.exit_code)


def _head(point: Point) -> dict[str, Any]:
    config = point.config
    axes = {
        **point.axes,
        "scheme": config.pruning.scheme.value,
        "sparsity": 0.0 if config.pruning.scheme is Scheme.dense else config.pruning.sparsity,
        "scope": config.pruning.scope.value,
        "seed": config.seed,
    }
    shown = to_plain(config)
    del shown["runtime"], shown["sweep"], shown["data"]["root"]
    return {"id": point.id, "axes": axes, "config": shown}


def _stage(artifact: Artifact) -> dict[str, Any]:
    provenance = artifact.manifest["provenance"]
    record: dict[str, Any] = {
        "key": artifact.key,
        "commit": provenance["commit"],
        "device": provenance["device"],
        "threads": provenance["threads"],
        "metrics": artifact.metrics,
    }
    for file, name in LISTS.items():
        if artifact.file(file).is_file():
            record[name] = json.loads(artifact.file(file).read_text())
    if artifact.file(HISTORY).is_file():
        rows = [json.loads(line) for line in artifact.file(HISTORY).read_text().splitlines()]
        record["history"] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    return record
