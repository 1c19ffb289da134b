from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Gpw

from gpw_cli.errors import StoreError
from gpw_cli.store.gc import collect, entries
from gpw_cli.store.keys import digest, stage_key
from gpw_cli.store.records import referenced
from gpw_cli.store.store import MANIFEST, Busy, Store
from gpw_cli.store.uses import Uses, living


def build(work: Path) -> dict[str, float]:
    (work / "payload.bin").write_bytes(b"weights")
    return {"test_accuracy": 90.0}


def test_keys_are_canonical_and_chained() -> None:
    assert digest({"b": 1, "a": 0.5}) == digest({"a": 5e-1, "b": 1})
    assert stage_key("prune", 1, {}, "x") != stage_key("prune", 1, {}, "y")
    assert stage_key("prune", 1, {}, "x") != stage_key("prune", 2, {}, "x")
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


def test_a_second_make_builds_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.make("prune", "k", {"parent": None}, build)

    def refuse(work: Path) -> dict[str, float]:
        raise AssertionError("built twice")

    second = store.make("prune", "k", {}, refuse)
    assert second.manifest == first.manifest
    assert second.metrics == {"test_accuracy": 90.0}
    assert not list(tmp_path.glob("*/*.partial"))


@pytest.mark.parametrize("damage", ["payload", "manifest", "missing"])
def test_damage_is_noticed_and_made_again(tmp_path: Path, damage: str) -> None:
    said: list[str] = []
    store = Store(tmp_path, said.append)
    artifact = store.make("prune", "k", {}, build)
    if damage == "payload":
        artifact.file("payload.bin").write_bytes(b"weightz")
    elif damage == "manifest":
        artifact.file(MANIFEST).write_text('{"files": ')
    else:
        artifact.file("payload.bin").unlink()
    again = store.make("prune", "k", {}, build)
    assert again.file("payload.bin").read_bytes() == b"weights"
    assert len(said) == 1
    assert "set aside as k.damaged1" in said[0]
    assert (tmp_path / "prune" / "k.damaged1").is_dir()


def test_a_failed_build_leaves_its_work_for_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fails(work: Path) -> dict[str, float]:
        (work / "last.safetensors").write_bytes(b"epoch 3")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        store.make("finetune", "k", {}, fails)
    assert store.find("finetune", "k") is None

    def goes_on(work: Path) -> dict[str, float]:
        assert (work / "last.safetensors").read_bytes() == b"epoch 3"
        return build(work)

    artifact = store.make("finetune", "k", {}, goes_on)
    assert not artifact.file("last.safetensors").exists()


HOLD = """
import sys, time
from pathlib import Path
from gpw_cli.store.store import Store
def build(work):
    print("building", flush=True)
    time.sleep(60)
    return {}
Store(Path(sys.argv[1])).make("prune", "k", {}, build)
"""


def test_a_lock_is_respected_and_dies_with_its_holder(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "building\n"
        store = Store(tmp_path)
        with pytest.raises(Busy):
            store.make("prune", "k", {}, build, wait=False)
        spared = collect(tmp_path, set(), dry_run=False)  # being made: not garbage
        assert (spared.removed, spared.processes) == ([], {holder.pid})
        assert [(entry.key, entry.state) for entry in spared.used] == [("k", "partial")]
        holder.kill()
    assert store.make("prune", "k", {}, build, wait=False).metrics == {"test_accuracy": 90.0}


def test_an_unwritable_store_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match=r"a part of the path is a file.*runtime\.root=FOLDER"):
        Store(blocked / "store").make("prune", "k", {}, build)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def full(work: Path) -> dict[str, float]:
        with open("/dev/full", "w") as stream:
            stream.write("x" * 100_000)
        return {}

    with pytest.raises(StoreError, match="disk is full"):
        Store(tmp_path).make("prune", "k", {}, full)


def test_gc_keeps_what_a_sweep_refers_to(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for key in ("kept", "planned", "loose"):
        store.make("prune", key, {}, build)
    os.rename(store.path("prune", "loose"), store.path("prune", "gone").with_suffix(".partial"))
    store.make("prune", "loose", {}, build)
    points = tmp_path / "results" / "s" / "points"
    points.mkdir(parents=True)
    (points / "p.json").write_text(
        json.dumps({"status": "done", "stages": {"prune": {"key": "kept"}}})
    )
    sweep = {"points": [{"id": "p", "keys": {"prune": "planned"}}]}
    (points.parent / "sweep.json").write_text(json.dumps(sweep))
    keep = referenced([tmp_path / "results"])
    assert keep == {"kept", "planned"}
    listed = collect(store.root, keep, dry_run=True)
    assert {entry.key for entry in listed.removed} == {"loose", "gone"}
    assert len(entries(store.root)) == 4
    collect(store.root, keep, dry_run=False)
    assert {entry.key for entry in entries(store.root)} == {"kept", "planned"}
    assert entries(store.root)[0].summary == "90.00 %"


def test_work_that_is_renamed_while_the_store_is_listed_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the soak: another process commits its ``.partial`` between listing and reading."""
    for key in ("committed", "growing"):
        work = tmp_path / "finetune" / f"{key}.partial"
        work.mkdir(parents=True)
        (work / "checkpoint.pt").write_bytes(b"x" * 100)
    listed = Path.rglob

    def rglob(path: Path, pattern: str) -> list[Path]:
        found = list(listed(path, pattern))
        if path.name == "committed.partial":
            path.rename(path.with_suffix(""))
        elif path.name == "growing.partial":
            (path / "checkpoint.pt").rename(path / "next.pt")
        return found

    monkeypatch.setattr(Path, "rglob", rglob)
    assert [(entry.key, entry.state) for entry in entries(tmp_path)] == [("growing", "partial")]


def test_gc_removes_nothing_when_it_cannot_know_what_to_keep(gpw: Gpw, tmp_path: Path) -> None:
    Store(tmp_path / ".gpw/store").make("prune", "loose", {}, build)
    mistyped = gpw("cache", "gc", "--results", "result")
    assert mistyped.code == 2
    assert "--results result: no sweep is there" in mistyped.err
    (tmp_path / "results/s").mkdir(parents=True)
    (tmp_path / "results/s/sweep.json").write_text("{")
    damaged = gpw("cache", "gc")
    assert damaged.code == 2
    assert "sweep.json does not read" in damaged.err
    assert len(entries(tmp_path / ".gpw/store")) == 1
    young = gpw("cache", "gc", "--all", "--json")
    assert young.json["removed"] == []
    assert young.json["spared"] == {"young": 1, "in_use": 0}
    assert "spared 1 younger than 24 h" in gpw("cache", "gc", "--all").out
    assert len(entries(tmp_path / ".gpw/store")) == 1
    assert gpw("cache", "gc", "--all", "--min-age", "0").code == 0
    assert entries(tmp_path / ".gpw/store") == []


def test_a_mark_that_is_gone_leaves_no_lock_behind(tmp_path: Path) -> None:
    uses = Uses(tmp_path)
    with uses.of(["key"]):
        assert living(tmp_path) == {os.getpid(): {"key"}}
        (mark,) = (tmp_path / ".uses").glob("*.keys")
        mark.unlink()
    assert not list((tmp_path / ".uses").glob("*-*"))
