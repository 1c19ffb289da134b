"""What a tracker is: one stage's run in TensorBoard, MLflow, or whatever comes next.

A new one is a file with ``open_run(run, place) -> Tracker`` and one line in the table of
``gpw_cli/tracking/registry.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

State = Literal["finished", "failed", "killed"]
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:")  # http://host:5000, sqlite:///file; not C:\folder


@dataclass(frozen=True)
class StageRun:
    """What identifies and describes one stage's run; the key makes a restart find the same one."""

    stage: str
    key: str
    parameters: Mapping[str, Any] = field(default_factory=dict)  # follow from the key alone
    seed: int = 0
    commit: str | None = None

    @property
    def name(self) -> str:
        """``finetune-0123456789abcdef``."""
        return f"{self.stage}-{self.key}"


@dataclass(frozen=True)
class Place:
    """``runtime.root`` and ``runtime.tracking``: where trackers write."""

    root: Path
    tracking: str | None = None

    @property
    def address(self) -> str | None:
        """A server or database, where one is configured."""
        return self.tracking if is_address(self.tracking) else None

    @property
    def folder(self) -> Path:
        """The folder that holds each tracker's own."""
        return Path(self.tracking) if self.tracking and not self.address else self.root


def is_address(tracking: str | None) -> bool:
    """Whether ``runtime.tracking`` names a server or a database; else it is a folder."""
    return tracking is not None and ADDRESS.match(tracking) is not None


class Tracker(Protocol):
    """One open run. Every call may raise: the caller drops the tracker then."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Values of one step, on disk or sent when this returns.

        What an earlier process logged for a tag at this step or a later one is left out.
        """

    def finish(self, metrics: Mapping[str, float]) -> None:
        """The stage's results; left out where they were logged before."""

    def close(self, state: State) -> None:
        """Nothing more comes."""
