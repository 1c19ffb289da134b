"""A finished run of a sweep, from its folder: its settings, and where its trained weights are.

    run = stored_run(Path("results/frontier/points/scheme=dense.json"))
    config = run.ready()                # its configuration, for which nothing has to be trained

The weights are looked for in the store, by the recorded key, and then in ``SWEEP/weights/ID``
(scripts/keep_weights.py).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpw_cli.config.compose import compose
from gpw_cli.config.grid import in_order, overridden
from gpw_cli.config.schema import Config, FinetuneConfig
from gpw_cli.errors import CheckpointError, UsageError
from gpw_cli.pruning.groups import Scheme
from gpw_cli.stages.ignored import without_idle
from gpw_cli.stages.inputs import trains
from gpw_cli.stages.network import WEIGHTS
from gpw_cli.stages.pipeline import Step, plan
from gpw_cli.store.records import BadRecord, read_point, read_sweep
from gpw_cli.store.store import Store

TRAINED = ("pretrain", "prune", "finetune")  # the stages up to the trained network


@dataclass(frozen=True)
class StoredRun:
    """file: its record. overrides: of its sweep, then its own. keys: (stage, key), in order, up to
    the trained network.
    """

    file: Path
    overrides: tuple[str, ...]
    keys: tuple[tuple[str, str], ...]

    @property
    def kept(self) -> Path:
        """The file of its weights beside the sweep, which need not exist."""
        return self.file.parent.parent / "weights" / f"{self.file.stem}.safetensors"

    @property
    def command(self) -> str:
        """The command that runs it again."""
        return shlex.join(["gpw", "run", *self.useful])

    @property
    def config(self) -> Config:
        """Its configuration, whether or not its weights are there."""
        return compose(in_order([*self.overrides]))

    @property
    def useful(self) -> list[str]:
        """Its overrides without those that only other runs of the sweep use."""
        return without_idle(self.config, self.overrides)

    def ready(self, given: Sequence[str] = (), config_dir: Path | None = None) -> Config:
        """Its configuration with ``given``, such that its trained network is there or is read.

        Where the store has it, this is the configuration of the run itself, and later stages are
        found too. Else the weights are those of a dense network, as with ``--checkpoint``. Raises
        UsageError if the weights are nowhere, with the command that makes them.
        """
        own = compose(in_order([*self.overrides, *given]), config_dir)
        store = Store(Path(own.runtime.root) / "store")
        planned = _trained(own)
        if planned and not trains(own):  # shipped weights, for example
            return own
        there = bool(planned) and _there(store, [(s.stage.name, s.key) for s in planned])
        if there and planned[-1].key == self.keys[-1][1]:
            return own
        scaled = own.finetune.quantized or own.finetune.shared.bits  # not weights alone
        if _there(store, self.keys) and not scaled:
            return _given_weights(own, store.path(*self.keys[-1]) / WEIGHTS)
        if self.kept.is_file() and not scaled:
            return _given_weights(own, self.kept)
        if there:  # made again by a gpw whose keys are not the recorded ones
            return own
        if scaled:
            raise UsageError(
                f"{self.file}: it was trained as integers, which its weights alone do not give "
                f"back; the command that trains it again: {self.command}"
            )
        raise UsageError(
            f"{self.file}: its weights are neither in the store ({store.root}) nor in {self.kept}; "
            f"the command that trains it again: {self.command}"
        )


def is_run(source: str) -> bool:
    """Whether ``source`` names a file in the ``points`` of a sweep."""
    file = Path(source)
    return file.suffix == ".json" and (file.parent.parent / "sweep.json").is_file()


def stored_run(file: Path) -> StoredRun:
    """The run of the record ``file``. Raises UsageError unless it is finished and of its sweep."""
    manifest = file.parent.parent / "sweep.json"
    try:
        sweep, record = read_sweep(manifest), read_point(file)
        axes = next(point["axes"] for point in sweep["points"] if point["id"] == file.stem)
        stages = record["stages"]
        keys = tuple((name, str(stages[name]["key"])) for name in TRAINED if name in stages)
    except StopIteration:
        raise UsageError(f"{manifest} says nothing of {file}; name it with a key") from None
    except (FileNotFoundError, BadRecord, KeyError) as error:
        raise UsageError(f"{file} is no finished run of a sweep ({error}); name a key") from None
    if not keys:
        raise UsageError(f"{file} is no finished run of a sweep; name one with a key")
    return StoredRun(file, tuple(overridden(sweep.get("overrides", ()), axes)), keys)


def _trained(config: Config) -> list[Step]:
    """The steps up to the trained network; none if a file of weights that it names is absent."""
    try:
        return plan(config, TRAINED[-1])
    except CheckpointError:
        return []


def _there(store: Store, keys: Sequence[tuple[str, str]]) -> bool:
    """Whether the store has the last artifact of the chain ``keys``, undamaged."""
    parent = keys[-2][1] if len(keys) > 1 else None
    return store.look(*keys[-1], parent).complete


def _given_weights(config: Config, file: Path) -> Config:
    """``config`` as a dense network with the weights in ``file``; zero tiles stay zero."""
    return replace(
        config,
        pretrain=replace(config.pretrain, source=str(file.resolve())),
        pruning=replace(config.pruning, scheme=Scheme.dense),
        finetune=FinetuneConfig(),
    )
