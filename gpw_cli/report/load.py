"""Reads a sweep's folder: ``sweep.json`` and one file per finished run, nothing else.

    sweep = load_sweep(Path("results/resnet20-cifar10-3f2a9c01"))
    sweep.frame[["scheme", "sparsity", "seed", "accuracy"]]

A sweep that is still running, or one with failed or damaged runs, loads all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from gpw_cli.errors import UsageError
from gpw_cli.report.frame import build_frame, dig
from gpw_cli.report.values import check_values
from gpw_cli.store.records import BadRecord, read_point, read_sweep


@dataclass(frozen=True)
class Sweep:
    """``frame``: one row per planned run. ``records``: id -> contents of its file (finished runs
    only). ``damaged``: id -> what is wrong with its file (listed only in the table of failures).
    """

    folder: Path
    name: str
    manifest: Mapping[str, Any]
    records: Mapping[str, Mapping[str, Any]]
    frame: pd.DataFrame
    damaged: Mapping[str, str]

    @property
    def done(self) -> pd.DataFrame:
        """The rows of finished runs."""
        return self.frame[self.frame["status"] == "done"]

    @property
    def under_budgets(self) -> bool:
        """Whether every pruned run has a budget of cycles: no sparsity was asked for."""
        pruned = set(self.done.loc[self.done["scheme"] != "dense", "id"])
        scopes = {dig(self.records[run], "config.pruning.scope") for run in pruned}
        return scopes == {"cycles"}

    def uncut(self) -> Sweep:
        """Without the networks that answer the same for every image; they have no speed-up."""
        return replace(self, frame=self.frame[~self.frame["cut"].eq(True)])

    def dense(self) -> Sweep:
        """Only the runs of dense networks."""
        return replace(self, frame=self.frame[self.frame["scheme"] == "dense"])

    def has(self, column: str) -> bool:
        """Whether any finished run has a value (a count above 0) in ``column``."""
        values = self.done[column].dropna()
        counted = pd.api.types.is_numeric_dtype(values)
        return bool((values > 0).any() if counted else len(values) > 0)


def load_sweep(folder: Path) -> Sweep:
    """Read a sweep. Raises UsageError if the folder is not a sweep, naming those beside it."""
    manifest = _read_manifest(folder)
    planned = [_read_point(folder, point) for point in manifest["points"]]
    fixed = dict(text.split("=", 1) for text in manifest.get("overrides", []) if "=" in text)
    records = {point["id"]: point for point in planned if point["status"] == "done"}
    name = str(manifest.get("name") or folder.name)
    damaged = {point["id"]: str(point["error"]) for point in planned if point.get("damaged")}
    return Sweep(folder, name, manifest, records, build_frame(planned, fixed), damaged)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        return read_sweep(folder / "sweep.json")
    except FileNotFoundError:
        raise _no_sweep(folder, "it holds no sweep.json") from None
    except BadRecord as error:
        raise _no_sweep(folder, f"`gpw sweep` did not write its sweep.json ({error})") from None


def _no_sweep(folder: Path, reason: str) -> UsageError:
    beside = sorted(file.parent.name for file in folder.parent.glob("*/sweep.json"))
    others = [name for name in beside if name != folder.name]
    listed = f"sweeps beside it: {', '.join(others)}" if others else "there is none beside it"
    return UsageError(
        f"{folder} is not a sweep: {reason}; {listed}. "
        "Name one of them, or make one with `gpw sweep sparsity=0.5:0.9`"
    )


def _read_point(folder: Path, point: Mapping[str, Any]) -> dict[str, Any]:
    """The run's record, or a placeholder whose status is ``open`` or ``failed``."""
    head = {"id": point["id"], "axes": point.get("axes", {}), "error": None}
    file = folder / "points" / f"{point['id']}.json"
    try:
        record = read_point(file)
        check_values(record)
    except FileNotFoundError:
        return {**head, "status": "open"}
    except BadRecord as error:
        text = f"left out, {file.name} is damaged or was edited: {error}"
        return {**head, "status": "failed", "error": text, "damaged": True}
    if record["status"] == "done" and _of_other_settings(record, point):
        return {**head, "status": "open"}
    axes = {**head["axes"], **(record.get("axes") or {})}
    return {"error": None, **record, "id": point["id"], "axes": axes}


def _of_other_settings(record: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    """Whether a stage of the record has another key than planned, for example because an older gpw
    made it; then the run is still to be done.
    """
    stages = record.get("stages") or {}
    planned = point.get("keys") or {}
    shared = planned.keys() & stages.keys()
    return any(stages[stage].get("key") != planned[stage] for stage in shared)
