"""Edges of the store: what is refused, what is said, what is left, in exact texts and numbers."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from gpw_cli.errors import StoreError, UsageError
from gpw_cli.store import files
from gpw_cli.store.gc import collect, entries, summary
from gpw_cli.store.keys import canonical, digest, stage_key
from gpw_cli.store.manifest import read
from gpw_cli.store.records import BadRecord, read_point, read_sweep, referenced
from gpw_cli.store.seal import Damaged, Opened, opened, sealed
from gpw_cli.store.store import MANIFEST, Store, checksum
from gpw_cli.store.uses import Uses, held, living

INPUTS: Mapping[str, Any] = {"parent": "9c01"}


def build(work: Path) -> dict[str, float]:
    (work / "payload.bin").write_bytes(b"weights")
    (work / "inner").mkdir(exist_ok=True)
    (work / "inner" / "more.bin").write_bytes(b"more")
    (work / "last.safetensors").write_bytes(b"epoch 3")
    (work / "teacher-last.safetensors").write_bytes(b"epoch 1")
    return {"test_accuracy": 90.0}


def rewritten(folder: Path, **changes: object) -> None:
    """The manifest with other content, and no seal."""
    manifest = opened((folder / MANIFEST).read_bytes()).content
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}))


def test_keys_are_what_they_were() -> None:
    assert canonical({"b": [1, 0.5], "a": None}) == '{"a":null,"b":[1,0.5]}'
    assert digest({"b": [1, 0.5], "a": None}) == "fc2ad738648c4fb6"
    key = stage_key("prune", 1, {"sparsity": 0.7}, "9c01")
    assert key == "2c1e4e846e9c36f5"
    assert len(key) == 16


# --- making -------------------------------------------------------------------------------------


def test_what_a_manifest_says(tmp_path: Path) -> None:
    before = time.time()
    artifact = Store(tmp_path).make("prune", "k", {**INPUTS, "config": {"seed": 1}}, build)
    manifest = dict(artifact.manifest)
    assert list(manifest) == [
        "stage", "key", "parent", "config", "metrics", "files", "finished", "seconds",
    ]  # fmt: skip
    assert (manifest["stage"], manifest["key"], manifest["parent"]) == ("prune", "k", "9c01")
    assert manifest["files"] == {
        "inner/more.bin": checksum(artifact.file("inner/more.bin")),
        "payload.bin": checksum(artifact.file("payload.bin")),
    }
    assert 0 <= manifest["seconds"] <= time.time() - before + 0.001
    assert artifact.metrics == {"test_accuracy": 90.0}
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert [name for name in left if not name.startswith(".uses")] == [
        "prune/k.lock", "prune/k/inner/more.bin", "prune/k/manifest.json", "prune/k/payload.bin",
    ]  # fmt: skip


def test_damaged_artifacts_are_numbered(tmp_path: Path) -> None:
    said: list[str] = []
    store = Store(tmp_path, said.append)
    for number in (1, 2, 3):
        store.make("prune", "k", INPUTS, build).file("payload.bin").write_bytes(b"weightz")
        assert (store.find("prune", "k", "9c01") is None, len(said)) == (True, number - 1)
    assert said == [
        f"prune k: payload.bin does not match its checksum; set aside as k.damaged{number}, made "
        "again"
        for number in (1, 2)
    ]
    assert sorted(p.name for p in tmp_path.glob("prune/k.d*")) == ["k.damaged1", "k.damaged2"]


@pytest.mark.parametrize("whole", [True, False])
def test_another_builder_on_a_file_system_without_locks(tmp_path: Path, whole: bool) -> None:
    """The one that comes second takes what is complete, and sets aside what is not."""
    said: list[str] = []
    other = Store(tmp_path / "other").make("prune", "k", INPUTS, build)

    def meanwhile(work: Path) -> dict[str, float]:
        os.rename(other.path, tmp_path / "prune" / "k")
        if not whole:
            (tmp_path / "prune/k" / MANIFEST).unlink()
        (work / "payload.bin").write_bytes(b"others")
        return {"test_accuracy": 91.0}

    made = Store(tmp_path, said.append).make("prune", "k", INPUTS, meanwhile)
    assert made.metrics["test_accuracy"] == (90.0 if whole else 91.0)
    assert made.file("payload.bin").read_bytes() == (b"weights" if whole else b"others")
    assert not (tmp_path / "prune" / "k.partial").exists()
    aside = [] if whole else ["prune k: it has no manifest; set aside as k.damaged1, made again"]
    assert said == aside


def test_who_waits_for_another_process_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "prune").mkdir()
    stream = (tmp_path / "prune" / "k.lock").open("w")
    fcntl.flock(stream, fcntl.LOCK_EX)

    def warn(message: str) -> None:
        said.append(message)
        stream.close()  # the other process ends

    made = Store(tmp_path, warn).make("prune", "k", INPUTS, build)
    assert said == ["prune k: waiting for another gpw process that is making it"]
    assert made.metrics == {"test_accuracy": 90.0}


def test_a_killed_process_s_work_is_only_moved(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = store.make("prune", "k", INPUTS, build)
    os.rename(artifact.path, artifact.path.with_suffix(".partial"))
    (artifact.path.with_suffix(".partial") / "last.safetensors").write_bytes(b"epoch 3")

    def refuse(work: Path) -> dict[str, float]:
        raise AssertionError("built again")

    again = store.make("prune", "k", INPUTS, refuse)
    assert again.manifest == artifact.manifest
    assert not again.file("last.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "damage"),
    [
        ({"metrics": 5}, "unreadable manifest (no metrics or no files)"),
        ({"files": ["payload.bin"]}, "unreadable manifest (no metrics or no files)"),
        ({"files": {"absent.bin": "0"}}, "absent.bin is missing"),
        ({"files": {"payload.bin/x": "0"}}, "payload.bin/x is missing"),
        ({"files": {"inner": "0"}}, "inner is no file"),
        ({"files": {"a\0b": "0"}}, "unreadable manifest (file names)"),
        ({"files": {"payload.bin": "0"}}, "payload.bin does not match its checksum"),
        ({"key": "other"}, "its manifest is of another artifact (key 'other')"),
        ({"parent": None}, "its manifest is of another artifact (parent None)"),
        ({}, None),
    ],
)
def test_what_is_wrong_with_a_manifest(
    tmp_path: Path, changes: dict[str, object], damage: str | None
) -> None:
    folder = Store(tmp_path).make("prune", "k", INPUTS, build).path
    rewritten(folder, **changes)
    reading = read(folder, "prune", "k", "9c01")
    assert (reading.there, reading.damage, reading.complete) == (True, damage, damage is None)
    assert reading.sealed is False
    assert bool(reading.manifest) is (damage is None)


def test_nothing_and_a_loose_link_are_told_apart(tmp_path: Path) -> None:
    empty = read(tmp_path / "k", "prune", "k", None)
    assert (empty.there, empty.damage, empty.complete) == (False, None, False)
    (tmp_path / "k").symlink_to(tmp_path / "nowhere")
    loose = read(tmp_path / "k", "prune", "k", None)
    assert (loose.there, loose.damage) == (True, "it has no manifest")


def test_a_seal_without_a_last_newline_and_a_key_of_its_name() -> None:
    content = {"sha256": "own", "a": 1}
    text = sealed(content)
    assert text.endswith('"\n}\n')
    assert opened(text.rstrip("\n").encode()).sealed
    assert opened(sealed({"a": 1}).encode()).content == {"a": 1}
    text = sealed({"a": 1})
    changed = (
        text + " ",
        text.replace('"sha256": "', '"sha25": "'),
        text[:-10] + text[-9:],  # a digit less
        text[:-10] + "0" + text[-10:],
        text[:-10] + '", "b": "' + text[-10:],
        text.replace("\n", ""),
        text.replace("sha256", "sha-256")[:-10] + '"}',
    )
    for other in changed:
        with pytest.raises(Damaged, match="does not match its own checksum"):
            opened(other.encode())
    for old in (
        {"a": "9c01"},
        {"a": "a sentence of more than thirty-two characters"},
        {"commit": "9c01" * 10},
        {"a": "results/frontier/weights/scheme=dense,model=resnet8,seed=0.safetensors"},
        {},
        {"b": 1},
    ):
        assert opened(json.dumps(old).encode()) == Opened(old, sealed=False)


# --- listing and cleaning -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({"test_accuracy": 90, "recipe": "fast", "epochs": 3}, "90.00 %, fast, 3 epochs"),
        ({"test_accuracy": 90.126}, "90.13 %"),
        ({"test_accuracy": "x", "epochs": 0}, "0 epochs"),
        ({"recipe": "best"}, "best"),
        ({}, ""),
        (None, ""),
        ([1], ""),
    ],
)
def test_summary_of_metrics(metrics: Any, text: str) -> None:
    assert summary(metrics) == text


@pytest.mark.parametrize(
    ("stage", "scheme", "text"),
    [
        ("prune", "gpw", "resnet20 cifar10 gpw 0.7"),
        ("prune", "dense", "resnet20 cifar10 dense"),
        ("pretrain", "gpw", "resnet20 cifar10"),
    ],
)
def test_what_an_entry_says(tmp_path: Path, stage: str, scheme: str, text: str) -> None:
    config = {
        "model": {"name": "resnet20"},
        "data": {"name": "cifar10"},
        "pruning": {"scheme": scheme, "sparsity": 0.7},
    }
    Store(tmp_path).make(stage, "k", {"config": config}, build)
    (entry,) = entries(tmp_path)
    assert (entry.stage, entry.key, entry.state) == (stage, "k", "complete")
    assert (entry.made_with, entry.summary) == (text, "90.00 %")
    inside = [path.lstat().st_size for path in entry.path.rglob("*")]
    assert len(inside) == 4
    assert entry.bytes == sum(inside)


def test_states_of_entries(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key in ("whole", "odd", "work", "aside"):
        store.make("prune", key, {"config": "no mapping"}, build)
    rewritten(store.path("prune", "odd"), config={"model": 5, "data": {"name": None}})
    os.rename(store.path("prune", "work"), store.path("prune", "work.partial"))
    os.rename(store.path("prune", "aside"), store.path("prune", "aside.damaged12"))
    (tmp_path / "prune" / "empty").mkdir()
    (tmp_path / "prune" / "file").write_text("x")
    found = {(entry.key, entry.state, entry.made_with) for entry in entries(tmp_path)}
    assert found == {
        ("whole", "complete", ""),
        ("odd", "complete", ""),
        ("work", "partial", ""),
        ("aside", "damaged", ""),
        ("empty", "damaged", ""),
    }
    assert {entry.path.name for entry in entries(tmp_path)} >= {"work.partial", "aside.damaged12"}


def test_damaged_artifacts_go_although_their_key_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key in ("k", "other"):
        store.make("prune", key, INPUTS, build)
    os.rename(store.path("prune", "other"), store.path("prune", "k.damaged1"))
    for dry_run in (True, False):
        found = collect(tmp_path, {"k", "other"}, dry_run=dry_run)
        assert [(entry.key, entry.state) for entry in found.removed] == [("k", "damaged")]
        assert (found.young, found.used, found.processes) == ([], [], set())
    assert [lock.name for lock in tmp_path.glob("prune/*.lock")] == ["k.lock"]
    assert list((tmp_path / ".trash").iterdir()) == []


def test_what_is_being_made_by_this_process_is_spared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.make("prune", "k", INPUTS, build)
    lock = FileLock(tmp_path / "prune" / "k.lock")
    with lock:
        assert held(tmp_path / "prune" / "k.lock")
        for dry_run in (True, False):
            found = collect(tmp_path, set(), dry_run=dry_run)
            assert ([e.key for e in found.used], found.removed) == (["k"], [])
    assert not held(tmp_path / "prune" / "k.lock")
    assert not held(tmp_path / "absent.lock")
    assert not (tmp_path / "absent.lock").exists()


def test_marks_of_several_blocks(tmp_path: Path) -> None:
    one, two = Uses(tmp_path), Uses(tmp_path)
    with one.of(["a"]), two.of(["b", "c"]):
        assert living(tmp_path) == {os.getpid(): {"a", "b", "c"}}
        with one.of(["a"]):
            assert len(list(tmp_path.glob(".uses/*.keys"))) == 2
        with one.of(["d"]):
            pass
        assert living(tmp_path) == {os.getpid(): {"a", "b", "c", "d"}}  # until the outermost ends
    assert living(tmp_path) == {}
    with one.of(["e"]):
        assert living(tmp_path) == {os.getpid(): {"e"}}


# --- records ------------------------------------------------------------------------------------

POINT = {"id": "p", "axes": {}, "keys": {"prune": "k"}}
RECORD = {"status": "done", "stages": {"prune": {"key": "k"}}, "axes": {}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"points": {}}, "it has no list of points"),
        ({"points": [5]}, "a point has no id"),
        ({"points": [POINT, {}]}, "a point has no id"),
        ({"points": [{"id": ""}]}, "a point has no id"),
        ({"points": [{"id": "a/b"}]}, "a point has no id"),
        ({"points": [{"id": "a\0b"}]}, "a point has no id"),
        ({"points": [{"id": 5}]}, "a point has no id"),
        ({"points": [{"id": "p", "axes": []}]}, "axes of the point p is no mapping"),
        ({"points": [{"id": "p", "keys": 5}]}, "keys of the point p is no mapping"),
        ({"points": [{"id": "p", "keys": {"prune": 5}}]}, "the point p has a key that is no text"),
        ({"points": [], "overrides": "x"}, "its overrides are no list of texts"),
        ({"points": [], "overrides": ["x", 5]}, "its overrides are no list of texts"),
        ({"points": []}, None),
        ({"points": [{"id": "p"}, POINT], "overrides": ["x"]}, None),
    ],
)
def test_plans_that_say_nothing(
    tmp_path: Path, content: dict[str, object], words: str | None
) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps(content))
    if words is None:
        assert read_sweep(file) == content
        return
    with pytest.raises(BadRecord) as refused:
        read_sweep(file)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "fine"}, "not a record that `gpw sweep` wrote"),
        ({"status": None}, "not a record that `gpw sweep` wrote"),
        ({"stages": []}, "stages is no mapping"),
        ({"axes": 5}, "axes is no mapping"),
        ({"stages": {"a": 5}}, "the stage a is no mapping with a key"),
        ({"stages": {"a": {"key": 5}}}, "the stage a is no mapping with a key"),
        ({"stages": {"a": {"metrics": []}}}, "the metrics of a are no mapping"),
        ({"stages": {"a": {"layers": 5}}}, "layers of a is no list of rows"),
        ({"stages": {"a": {"history": [{}, 5]}}}, "history of a is no list of rows"),
        ({"stages": {"a": {"layers": None, "history": [{}]}}}, None),
        ({"status": "failed", "stages": {}}, None),
    ],
)
def test_records_that_say_nothing(
    tmp_path: Path, changes: dict[str, object], words: str | None
) -> None:
    file = tmp_path / "p.json"
    file.write_text(sealed({**RECORD, **changes}))
    if words is None:
        assert read_point(file) == {**RECORD, **changes}
        return
    with pytest.raises(BadRecord) as refused:
        read_point(file)
    assert str(refused.value) == words


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_point(tmp_path / "p.json")
    (tmp_path / "p.json").mkdir()
    with pytest.raises(BadRecord, match=r"^is no file$"):
        read_point(tmp_path / "p.json")
    (tmp_path / "q.json").write_text("{")
    with pytest.raises(BadRecord, match=r"^no JSON$"):
        read_sweep(tmp_path / "q.json")


def test_keys_of_plans_and_records(tmp_path: Path) -> None:
    points = tmp_path / "s" / "points"
    points.mkdir(parents=True)
    plan = {"points": [POINT, {"id": "q", "keys": {"prune": "k", "finetune": "f"}}, {"id": "r"}]}
    (tmp_path / "s" / "sweep.json").write_text(json.dumps(plan))
    record = {**RECORD, "stages": {"prune": {"key": "old"}, "simulate": {}}}
    (points / "p.json").write_text(json.dumps(record))
    assert referenced([tmp_path]) == {"k", "f", "old"}
    assert referenced([]) == set()
    (points / "q.json").write_text("{")
    with pytest.raises(UsageError, match=r"q\.json does not read, .*\(no JSON\)"):
        referenced([tmp_path])
    with pytest.raises(UsageError, match="no sweep is there"):
        referenced([tmp_path / "s"])


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full: `gpw cache gc` frees space"),
        (errno.EDQUOT, "the disk quota is used up: `gpw cache gc` frees space"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "no permission to write"),
        (errno.ELOOP, "the path is a circle of links"),
        (errno.EIO, "the disk reports an error"),
    ],
)
def test_storage_errors_are_one_line(tmp_path: Path, number: int, reason: str) -> None:
    for error in (OSError(number, "x"), RuntimeError(f"cannot write (os error {number})")):
        with pytest.raises(StoreError) as told, files.storage_errors(tmp_path, "; wait"):
            raise error
        assert str(told.value) == f"cannot write below {tmp_path}: {reason}; wait"
    for other in (ValueError("x"), OSError("x"), FileNotFoundError(errno.ENOENT, "x")):
        with pytest.raises(type(other)), files.storage_errors(tmp_path):
            raise other


def test_texts_are_written_whole_and_beside(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a" / "x.json", {"a": [1]})
    assert (tmp_path / "a" / "x.json").read_text() == '{\n "a": [\n  1\n ]\n}\n'
    files.write_text(tmp_path / "a" / "x.json", "ü")
    assert (tmp_path / "a" / "x.json").read_bytes() == "ü".encode()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.json"]
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "y.json", float("nan"))
    assert not (tmp_path / "y.json").exists()
    with pytest.raises(StoreError, match="a folder is where a file should be"):
        files.write_text(tmp_path / "a", "x")
    with pytest.raises(StoreError, match="no folder can be made at"):
        files.make_folder(tmp_path / "a\0b")


def test_what_killed_writers_left_goes_after_an_hour(tmp_path: Path) -> None:
    ages = {".new.1.tmp": 0, ".hour.1.tmp": 3590, ".old.1.tmp": 3610, "own.tmp": 9999, ".x": 9999}
    for name, age in ages.items():
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (0, time.time() - age))
    files.clear_partials(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == ages.keys() - {".old.1.tmp"}


def test_the_last_file_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "deep" / "x"
    files.write_folder(folder, {"a": b"1", "b": b"1"})
    assert files.partial_of("a") == ".a.partial"
    seen: list[list[str]] = []
    replace = os.replace

    def noted(source: Path, target: Path) -> None:
        seen.append(sorted(path.name for path in folder.iterdir()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", noted)
    files.write_folder(folder, {"a": b"2", "b": b"2"})
    assert seen == [[".a.partial", "a"], [".b.partial", "a"]]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"2", "b": b"2"}
