"""MLflow: one run per stage in the experiment ``gpw``, through the client of mlflow-skinny.

Runs go to ``runtime.tracking`` (an address, or a folder for ``mlruns``), else to MLflow's
MLFLOW_TRACKING_URI, else to ``<root>/mlruns``. MLFLOW_EXPERIMENT_NAME and MLFLOW_EXPERIMENT_ID name
another experiment. ``<root>/mlflow-runs`` maps keys to runs, because a search over the runs in a
folder would read every file.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from gpw_cli.store.files import write_json
from gpw_cli.store.keys import digest
from gpw_cli.tracking.base import Destination, Ending, StageRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "gpw"
BATCH = 100  # the most parameters that a server accepts in one request

# Defaults that the user can override. MLflow 3 refuses folders by default, but mlflow-skinny has no
# database, and several machines can write to one folder. With MLflow's defaults (seven retries,
# 120 s each) a server that is down would stall training for minutes. Usage reports are off.
DEFAULTS = {
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def open_run(run: StageRun, destination: Destination) -> MlflowRun:
    """The run of ``run.key``: an existing one is continued, else a new one starts."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # stdout is for results of gpw
    address = _address(destination)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=address)
    run_id, continued = _run_id(client, run, destination.root / "mlflow-runs")
    return MlflowRun(client, run, run_id, continued)


def _address(destination: Destination) -> str | None:
    """The tracking address; None: MLflow reads MLFLOW_TRACKING_URI itself."""
    if destination.address:
        return destination.address
    if destination.tracking is None and os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    return (destination.folder / "mlruns").absolute().as_uri()


def _run_id(client: MlflowClient, run: StageRun, known: Path) -> tuple[str, bool]:
    """(id, whether it is continued): from the folder ``known``, else of a new run."""
    known.mkdir(parents=True, exist_ok=True)
    with FileLock(known / "experiment.lock"):  # a folder accepts two experiments of the same name
        experiment = _experiment(client)
    note = known / f"{run.name}-{digest([client.tracking_uri, experiment])[:8]}.json"
    if note.is_file():
        found = str(json.loads(note.read_text())["run"])
        if _exists(client, found):
            client.update_run(found, status="RUNNING")
            return found, True
    made: str = client.create_run(experiment, run_name=run.name).info.run_id
    write_json(note, {"run": made})
    return made, False


def _experiment(client: MlflowClient) -> str:
    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def _exists(client: MlflowClient, run: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


class MlflowRun:
    """A run (gpw_cli/tracking/base.py: Tracker)."""

    def __init__(self, client: MlflowClient, run: StageRun, run_id: str, continued: bool) -> None:
        from mlflow.entities import Param, RunTag

        self._client, self._run_id, self._continued = client, run_id, continued
        self._logged: dict[str, int] = {}
        tags = {
            "gpw.stage": run.stage,
            "gpw.key": run.key,
            "gpw.seed": str(run.seed),
            "mlflow.source.name": "gpw",
            "mlflow.source.git.commit": run.commit or "unknown",
        }
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        parameters = [Param(name, _text(value)) for name, value in run.parameters.items()]
        for start in range(0, len(parameters), BATCH):
            client.log_batch(run_id, params=parameters[start : start + BATCH])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of one step in one request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        fresh = [Metric(k, v, now, step) for k, v in values.items() if self._last(k) < step]
        if fresh:
            self._client.log_batch(self._run_id, metrics=fresh)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Log the results at step 0."""
        self.log(0, metrics)

    def close(self, state: Ending) -> None:
        """Set the status and the end time."""
        self._client.set_terminated(self._run_id, state.upper())

    def _last(self, tag: str) -> int:
        """The last step of ``tag`` when this process opened the run; -1 for none."""
        if not self._continued:  # saves a request
            return -1
        if tag not in self._logged:
            history = self._client.get_metric_history(self._run_id, tag)
            self._logged[tag] = max((metric.step for metric in history), default=-1)
        return self._logged[tag]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
