"""TensorBoard: one folder of event files a stage, ``<root>/tensorboard/<stage>-<key>``.

``tensorboard --logdir .gpw/tensorboard`` shows the curves, and under HPARAMS every run's
parameters beside its results. A restarted run adds an event file to the same folder.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gpw_cli.tracking.base import Place, StageRun, State


def open_run(run: StageRun, place: Place) -> EventFiles:
    """The run's folder, with what it holds already."""
    return EventFiles(place.folder / "tensorboard" / run.name, run)


class EventFiles:
    """A run's folder (gpw_cli/tracking/base.py: Tracker)."""

    def __init__(self, folder: Path, run: StageRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        _quiet_writers()
        self._run, self._logged = run, last_steps(folder)
        self._writer: Any = SummaryWriter(str(folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of one step."""
        for tag, value in values.items():
            if self._logged.get(tag, -1) < step:
                self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def finish(self, metrics: Mapping[str, float]) -> None:
        """A row of the HPARAMS table; its results are scalars too."""
        fresh = {tag: value for tag, value in metrics.items() if tag not in self._logged}
        if not fresh:
            return
        parameters = {name: _plain(value) for name, value in self._run.parameters.items()}
        parameters |= {"seed": self._run.seed, "commit": self._run.commit or "unknown"}
        self._writer.add_hparams(parameters, fresh, run_name=".", global_step=0)

    def close(self, state: State) -> None:
        """Close the file; event files know no state."""
        self._writer.close()


def last_steps(folder: Path) -> dict[str, int]:
    """The last step of every scalar in the folder's event files."""
    if not any(folder.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: events.Scalars(tag)[-1].step for tag in events.Tags()["scalars"]}


@cache
def _quiet_writers() -> None:
    """No traceback from a writer's thread: what stopped it is raised again by our next call."""
    others = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            others(failed)

    threading.excepthook = hook


def _plain(value: Any) -> Any:
    """The HPARAMS table takes numbers and strings."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
