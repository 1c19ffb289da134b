"""What stages need besides their configuration: store, device, data set and listener."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gpw_cli.config.schema import Config, Device, RuntimeConfig
from gpw_cli.errors import UsageError
from gpw_cli.stages.memory import keep_freed_memory
from gpw_cli.store.store import Store
from gpw_cli.tracking.base import Destination
from gpw_cli.tracking.session import Trackers

if TYPE_CHECKING:
    import torch

    from gpw_cli.data.images import Images
    from gpw_cli.training.loop import EpochRecord


class Listener(Protocol):
    """Receives the progress of stages."""

    def stage(self, stage: str, metrics: Mapping[str, Any] | None, what: str = "") -> None:
        """A stage starts (``metrics`` None; ``what``: stages/purpose.py), or is complete, run or
        found in the store.
        """

    def epoch(self, stage: str, record: EpochRecord, epochs: int) -> None:
        """A training epoch has ended."""

    def message(self, text: str) -> None:
        """A line to print."""

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Progress of a download or conversion; ``what`` names it and its unit.

        With 0 ``done`` of an unknown total ``what`` is a line to print: something begins.
        """


class Silent:
    """A listener that ignores everything."""

    def stage(self, stage: str, metrics: Mapping[str, Any] | None, what: str = "") -> None:
        """Ignored."""

    def epoch(self, stage: str, record: EpochRecord, epochs: int) -> None:
        """Ignored."""

    def message(self, text: str) -> None:
        """Ignored."""

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Ignored."""


def epoch_text(record: EpochRecord, epochs: int) -> str:
    """``epoch 3/10  loss 0.412  train 86.1 %  test 88.20 %  52.0 s  about 6 min left``."""
    parts = [f"epoch {record.epoch}/{epochs}", f"loss {record.loss:.3f}"]
    parts.append(f"train {record.train_accuracy:.1f} %")
    if record.test_accuracy is not None:
        parts.append(f"test {record.test_accuracy:.2f} %")
    parts.append(f"{record.seconds:.1f} s")
    left = record.seconds * (epochs - record.epoch)
    if left >= 60:
        parts.append(f"about {left / 60:.0f} min left")
    return "  ".join(parts)


def usable_cores() -> tuple[int, ...]:
    """The CPU cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def thread_count(runtime: RuntimeConfig, jobs: int = 1) -> int:
    """CPU threads of a process: as configured, else usable cores divided by ``jobs``.

    At most ``OMP_NUM_THREADS``, which schedulers set to the share of the machine that was given.
    """
    if runtime.threads:
        return runtime.threads
    share = max(1, len(usable_cores()) // jobs)
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(share, int(limit)) if limit.isdecimal() and int(limit) else share


@dataclass
class Services:
    """The services of a process; data sets and device are prepared at first use."""

    store: Store
    runtime: RuntimeConfig
    threads: int
    trackers: Trackers
    listener: Listener = field(default_factory=Silent)
    _images: dict[tuple[object, ...], Images] = field(default_factory=dict)
    _device: torch.device | None = None

    @property
    def teachers(self) -> Path:
        """The folder for the logits of teachers (training/distill.py)."""
        return Path(self.runtime.root) / "teachers"

    @property
    def device_name(self) -> str:
        """The type of the device once it is known, else as configured."""
        return self._device.type if self._device is not None else self.runtime.device.value

    def device(self) -> torch.device:
        """The device to compute on; sets the thread count of this process."""
        import torch

        torch.set_num_threads(
            self.threads
        )  # on each call, because OpenMP has a count per calling thread
        if self._device is None:
            keep_freed_memory()
            wanted = self.runtime.device
            if wanted is Device.cuda and not torch.cuda.is_available():
                raise UsageError("runtime.device=cuda: no CUDA device here; use runtime.device=cpu")
            auto = "cuda" if torch.cuda.is_available() else "cpu"
            self._device = torch.device(auto if wanted is Device.auto else wanted.value)
        return self._device

    def images(self, config: Config) -> Images:
        """The data set of ``config``, loaded once per process."""
        from gpw_cli.data.images import held_out
        from gpw_cli.data.registry import load_images
        from gpw_cli.stages.inputs import image_shape

        channels, size = image_shape(config)
        root = Path(config.data.root) if config.data.root else None
        key = (config.data.name, root, size, channels, config.data.validation)
        if key not in self._images:
            cache = Path(self.runtime.root) / "data"
            loaded = load_images(
                config.data.name, root, cache, size, channels, self.listener.progress
            )
            self._images[key] = held_out(loaded, config.data.validation)
        return self._images[key]


def open_services(config: Config, listener: Listener, jobs: int = 1) -> Services:
    """Services for ``config`` with its store below ``runtime.root``."""
    runtime = config.runtime
    root = Path(runtime.root)
    store = Store(root / "store", listener.message)
    trackers = Trackers(runtime.trackers, Destination(root, runtime.tracking), listener.message)
    return Services(store, runtime, thread_count(runtime, jobs), trackers, listener)
