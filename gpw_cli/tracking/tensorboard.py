"""TensorBoard: a folder of event files per stage, ``<root>/tensorboard/<stage>-<key>``.

``tensorboard --logdir .gpw/tensorboard`` shows the curves, and the parameters and results of all
runs under HPARAMS. A restarted run adds an event file to the same folder.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gpw_cli.tracking.base import Destination, Ending, StageRun


def open_run(run: StageRun, destination: Destination) -> EventFiles:
    """The run's folder, new or continued."""
    return EventFiles(destination.folder / "tensorboard" / run.name, run)


class EventFiles:
    """A run's folder (gpw_cli/tracking/base.py: Tracker)."""

    def __init__(self, folder: Path, run: StageRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        _quiet_writers()
        self._run, self._logged = run, last_steps(folder)
        self._writer: Any = SummaryWriter(str(folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the scalars of one step."""
        for tag, value in values.items():
            if self._logged.get(tag, -1) < step:
                self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Write a row of the HPARAMS table; its results are scalars too."""
        fresh = {tag: value for tag, value in metrics.items() if tag not in self._logged}
        if not fresh:
            return
        parameters = {name: _plain(value) for name, value in self._run.parameters.items()}
        parameters |= {"seed": self._run.seed, "commit": self._run.commit or "unknown"}
        self._writer.add_hparams(parameters, fresh, run_name=".", global_step=0)

    def close(self, state: Ending) -> None:
        """Close the file; event files have no state."""
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
    """Suppress the traceback of a writer's thread; our next call raises its error again."""
    others = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            others(failed)

    threading.excepthook = hook


def _plain(value: Any) -> Any:
    """``value`` as a number or string, which the HPARAMS table accepts."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
