"""The interface of experiment trackers.

A new tracker is a file with ``open_run(run, destination) -> Tracker`` and one line in the table of
``gpw_cli/tracking/registry.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Ending = Literal["finished", "failed", "killed"]
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:")  # http://host:5000, sqlite:///file; not C:\folder


@dataclass(frozen=True)
class StageRun:
    """Identity and parameters of a stage's run; a restart finds the same run by ``key``."""

    stage: str
    key: str
    parameters: Mapping[str, Any] = field(default_factory=dict)  # determined by the key
    seed: int = 0
    commit: str | None = None

    @property
    def name(self) -> str:
        """``finetune-0123456789abcdef``."""
        return f"{self.stage}-{self.key}"


@dataclass(frozen=True)
class Destination:
    """Where trackers write: ``runtime.root`` and ``runtime.tracking``."""

    root: Path
    tracking: str | None = None

    @property
    def address(self) -> str | None:
        """The configured server or database, if any."""
        return self.tracking if is_address(self.tracking) else None

    @property
    def folder(self) -> Path:
        """The folder with the folders of the trackers."""
        return Path(self.tracking) if self.tracking and not self.address else self.root


def is_address(tracking: str | None) -> bool:
    """Whether ``runtime.tracking`` is the address of a server or database, not a folder."""
    return tracking is not None and ADDRESS.match(tracking) is not None


class Tracker(Protocol):
    """An open run. Any call may raise; the caller then drops the tracker."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write or send the values of one step before returning.

        Values that an earlier process has already logged, at this step or a later one, are skipped.
        """

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Log the results of the stage, unless they were logged before."""

    def close(self, state: Ending) -> None:
        """End the run."""
