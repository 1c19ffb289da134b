"""Every moment at which a command may be killed while it changes the file system.

    python tests/crash_points.py make FOLDER        # {"points": 17, "faults": []}

A forked child runs the operation and ends with ``os._exit`` at its n-th change: before each
creation, rename, removal and change of permissions (Python's audit events), and in the middle of
each write. A second one, the next command, must find things in order. This goes on with n = 1, 2,
... until the operation ends by itself.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpw_cli.store.files import write_folder
from gpw_cli.store.gc import collect, entries
from gpw_cli.store.store import MANIFEST, RESUME, Store

KILLED = 77
CHANGES = {
    f"os.{name}"
    for name in ("rename", "remove", "mkdir", "rmdir", "chmod", "truncate", "utime", "link")
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
INPUTS = {"parent": None, "config": {"model": {"name": "resnet20"}}}
OLD = {"parent": None, "metrics": {"test_accuracy": 90.0}}


class Countdown:
    """Ends the process at the ``left``-th change of the file system."""

    def __init__(self, left: int) -> None:
        self.left = left

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            os._exit(KILLED)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and arguments[2] & WRITING):
            self.tick()

    def open(self, *arguments: Any, **options: Any) -> Any:
        stream = _open(*arguments, **options)
        return Torn(stream, self) if stream.writable() else stream


_open = io.open


class Torn:
    """A file of which only the first half of a write may reach the disk."""

    def __init__(self, stream: Any, countdown: Countdown) -> None:
        self._stream, self._countdown = stream, countdown

    def write(self, data: Any) -> int:
        half = len(data) // 2
        self._stream.write(data[:half])
        self._stream.flush()
        self._countdown.tick()
        self._stream.write(data[half:])
        return len(data)

    def __enter__(self) -> Torn:
        return self

    def __exit__(self, *ended: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@dataclass(frozen=True)
class Operation:
    """prepare: before; run: what is killed; heal: the next command, with assertions."""

    prepare: Callable[[Path], None]
    run: Callable[[Path], object]
    heal: Callable[[Path], None]


def build(work: Path) -> dict[str, float]:
    """Two files, one of them in a folder and with other permissions."""
    (work / "payload.bin").write_bytes(b"weights")
    (work / "inner").mkdir(exist_ok=True)
    (work / "inner" / "more.bin").write_bytes(b"more")
    (work / "payload.bin").chmod(0o600)
    return {"test_accuracy": 90.0}


def make(root: Path) -> object:
    return Store(root).make("prune", "k", INPUTS, build)


def made_again(root: Path) -> None:
    """Whatever was left: one make gives the artifact, and nothing else stays but what was aside."""
    built: list[Path] = []

    def counted(work: Path) -> dict[str, float]:
        built.append(work)
        return build(work)

    store = Store(root)
    before = store.look("prune", "k")
    ready = store.look("prune", "k").complete or (root / "prune/k.partial" / MANIFEST).exists()
    artifact = store.make("prune", "k", INPUTS, counted)
    assert not (ready and built), "built again although it was complete"
    assert not before.complete or before.manifest == artifact.manifest
    assert artifact.file("payload.bin").read_bytes() == b"weights"
    assert {oct(file.stat().st_mode) for file in artifact.path.glob("*.*")} == {"0o100644"}
    found = store.find("prune", "k")
    assert found is not None
    assert found.manifest == artifact.manifest
    assert {entry.state for entry in entries(root)} <= {"complete", "damaged"}
    assert list((root / ".uses").glob("*-*")) == []
    emptied(root)


def emptied(root: Path) -> None:
    """A cleaning that keeps nothing leaves nothing."""
    collect(root, set(), dry_run=False)
    left = [str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()]
    assert set(left) <= {".uses/.lock"}, left
    assert list((root / ".trash").iterdir()) == []


def damaged(root: Path) -> None:
    artifact = Store(root).make("prune", "k", INPUTS, build)
    artifact.file("payload.bin").write_bytes(b"weightz")


def without_manifest(root: Path) -> None:
    artifact = Store(root).make("prune", "k", INPUTS, build)
    artifact.file("payload.bin").write_bytes(b"weightz")
    artifact.file(MANIFEST).unlink()


def half_trained(root: Path) -> None:
    work = root / "prune" / "k.partial"
    work.mkdir(parents=True)
    (work / RESUME).write_bytes(b"epoch 3")


def goes_on(root: Path) -> None:
    """The checkpoint of the epochs is there until the artifact is."""
    work = root / "prune" / "k.partial"
    assert not work.exists() or (work / RESUME).exists() or (work / MANIFEST).exists()
    made_again(root)


def old_manifest(root: Path) -> None:
    """As gpw wrote it before manifests had a checksum."""
    artifact = Store(root).make("prune", "k", INPUTS, build)
    artifact.file(MANIFEST).write_text(json.dumps(dict(artifact.manifest), indent=1))
    artifact.file("payload.bin").chmod(0o600)


def find(root: Path) -> object:
    return Store(root).find("prune", "k")


def found_whole(root: Path) -> None:
    assert Store(root).look("prune", "k").complete
    assert Store(root).find("prune", "k") is not None
    assert Store(root).look("prune", "k").sealed
    made_again(root)


def many(root: Path) -> None:
    """One that is kept, one that is not, one unfinished, one damaged, one in the trash."""
    store = Store(root)
    for key in ("kept", "loose", "broken"):
        store.make("prune", key, INPUTS, build)
    os.rename(root / "prune/broken", root / "prune/broken.damaged1")
    half_trained(root)
    (root / ".trash" / "old").mkdir(parents=True)
    (root / ".trash" / "old" / "payload.bin").write_bytes(b"x")


def clean(root: Path) -> object:
    return collect(root, {"kept"}, dry_run=False)


def cleaned(root: Path) -> None:
    """Every artifact is there whole or not at all, and the next cleaning ends the work."""
    store = Store(root)
    for key in ("kept", "loose", "broken", "k"):
        reading = store.look("prune", key)
        assert reading.damage is None, (key, reading.damage)
    assert store.look("prune", "kept").complete
    collect(root, {"kept"}, dry_run=False)
    assert [entry.path.name for entry in entries(root)] == ["kept"]
    assert list((root / ".trash").iterdir()) == []
    assert [lock.name for lock in root.glob("prune/*.lock")] in ([], ["kept.lock"])
    for key in ("loose", "broken", "k"):
        store.make("prune", key, INPUTS, build)


FILES = ("insn.bin", "dram.bin", "manifest.json")


def export(root: Path) -> None:
    write_folder(root / "x", {name: b"new " + name.encode() for name in FILES})


def exported_before(root: Path) -> None:
    write_folder(root / "x", {name: b"old " + name.encode() for name in FILES})


def exported_again(root: Path) -> None:
    """While the last file is there, all are of one call."""
    folder = root / "x"
    if (folder / FILES[-1]).exists():
        kinds = {(folder / name).read_bytes().partition(b" ")[0] for name in FILES}
        assert len(kinds) == 1, kinds
    export(root)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        name: b"new " + name.encode() for name in FILES
    }


def sweep(root: Path) -> Any:
    from gpw_cli.sweep.plan import Request, plan_sweep

    asked = ["data=digits", "scheme=gpw", "sparsity=0.5,0.6", f"runtime.results={root}"]
    return plan_sweep(Request(asked, "s"))


def record(root: Path) -> None:
    from gpw_cli.sweep.plan import claim_folder
    from gpw_cli.sweep.results import failed_record, write_record

    planned = sweep(root)
    claim_folder(planned)
    for point in planned.points:
        write_record(planned.folder, point, failed_record(point, "no", 1))


def recorded_before(root: Path) -> None:
    record(root)
    for file in root.glob("s/points/*.json"):
        file.write_text(file.read_text().replace('"no"', '"before"'))


def recorded(root: Path) -> None:
    """Each record is of before, of now, or not there; the same sweep completes them."""
    from gpw_cli.sweep.results import status

    planned = sweep(root)
    for point in planned.points:
        assert status(planned.folder, point) in (("open", None), ("failed", "no"))
    record(root)
    assert [status(planned.folder, p) for p in planned.points] == [("failed", "no")] * 3


OPERATIONS = {
    "make": Operation(lambda root: None, make, made_again),
    "set_aside": Operation(damaged, make, made_again),
    "no_manifest": Operation(without_manifest, make, made_again),
    "resume": Operation(half_trained, make, goes_on),
    "seal": Operation(old_manifest, find, found_whole),
    "gc": Operation(many, clean, cleaned),
    "export": Operation(lambda root: None, export, exported_again),
    "export_over": Operation(exported_before, export, exported_again),
    "records": Operation(lambda root: None, record, recorded),
    "records_over": Operation(recorded_before, record, recorded),
}


def forked(work: Callable[[], object]) -> int:
    """The exit status of a child that does ``work``."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def enumerate_crashes(operation: Operation, folder: Path) -> dict[str, Any]:
    """points: at which the operation was killed; faults: those after which something is wrong."""
    faults: list[int] = []
    for number in range(1, 10_000):
        root = folder / str(number)
        root.mkdir(parents=True)
        assert forked(lambda root=root: operation.prepare(root)) == 0  # type: ignore[misc]

        def run(root: Path = root, number: int = number) -> None:
            countdown = Countdown(number)
            io.open = builtins.open = countdown.open  # type: ignore[assignment]
            sys.addaudithook(countdown.audit)
            operation.run(root)
            os._exit(0)

        status = forked(run)
        if status not in (0, KILLED) or forked(lambda root=root: operation.heal(root)):  # type: ignore[misc]
            faults.append(number)
        if status == 0:
            return {"points": number - 1, "faults": faults}
    raise AssertionError("it never ends")


if __name__ == "__main__":
    print(json.dumps(enumerate_crashes(OPERATIONS[sys.argv[1]], Path(sys.argv[2]))))
