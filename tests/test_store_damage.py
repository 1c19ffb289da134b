"""What is damaged, and who notices, moves or leaves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, Gpw
from file_fuzzing import flips
from synthetic_sweep import write_sweep

from gpw_cli.config.compose import compose
from gpw_cli.errors import UsageError
from gpw_cli.report.load import load_sweep
from gpw_cli.report.tables import results_csv
from gpw_cli.stages.pipeline import run
from gpw_cli.stages.services import Silent, open_services
from gpw_cli.store.gc import collect, entries
from gpw_cli.store.records import BadRecord, read_sweep
from gpw_cli.store.seal import Damaged, opened, sealed
from gpw_cli.store.store import MANIFEST, Store
from gpw_cli.sweep.plan import Request, claim_folder, plan_sweep

ONE = ("runtime.threads=1",)
INPUTS = {"parent": "9c01", "config": {"model": {"name": "resnet20"}}}


def build(work: Path) -> dict[str, float]:
    (work / "payload.bin").write_bytes(b"weights")
    return {"test_accuracy": 90.0}


def make(root: Path) -> Path:
    return Store(root).make("prune", "k", INPUTS, build).path


def unsealed(folder: Path, **changes: object) -> None:
    """The manifest as gpw wrote it before it had a checksum."""
    manifest = opened((folder / MANIFEST).read_bytes()).content
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}, indent=1))


def test_every_flip_of_a_bit_of_a_manifest_is_noticed(tmp_path: Path) -> None:
    content = (make(tmp_path) / MANIFEST).read_bytes()
    assert opened(content).sealed
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            opened(bytes(changed))
    for length in range(len(content) - 1):  # the last byte ends the line
        with pytest.raises(Damaged):
            opened(content[:length])


def test_flips_anywhere_in_an_artifact_are_noticed(tmp_path: Path) -> None:
    noticed = flips(tmp_path, 300, 0)
    assert noticed[MANIFEST] == 150
    assert sum(noticed.values()) == 300


def test_a_seal_is_taken_off_again() -> None:
    content = {"a": [1, 2.5, None], "text": "ü\n", "sha": {"sha256": "0" * 64}}
    assert opened(sealed(content).encode()).content == content
    assert not opened(json.dumps(content).encode()).sealed
    for text in (b"[1]", b"{", b"\xff", b"", b"[" * 100_000):
        with pytest.raises(Damaged):
            opened(text)


@pytest.mark.parametrize("name", ["stage", "key", "parent"])
def test_a_manifest_of_another_artifact_is_damage(tmp_path: Path, name: str) -> None:
    unsealed(make(tmp_path), **{name: "other"})
    damage = Store(tmp_path).look("prune", "k", "9c01").damage
    assert damage == f"its manifest is of another artifact ({name} 'other')"


def test_an_old_manifest_is_accepted_and_gets_a_checksum(tmp_path: Path) -> None:
    folder = make(tmp_path)
    before = opened((folder / MANIFEST).read_bytes()).content
    unsealed(folder)
    store = Store(tmp_path)
    assert not store.look("prune", "k", "9c01").sealed
    found = store.find("prune", "k", "9c01")
    assert found is not None
    assert found.manifest == before
    assert store.look("prune", "k", "9c01").sealed
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace("90.0", "99.0"))
    assert store.find("prune", "k", "9c01") is None


@pytest.mark.parametrize("place", ["file", "folder", "fifo", "manifest is a folder"])
def test_anything_in_an_artifacts_place_is_set_aside(tmp_path: Path, place: str) -> None:
    final = tmp_path / "prune" / "k"
    final.parent.mkdir(parents=True)
    if place == "file":
        final.write_text("x")
    elif place == "fifo":
        final.mkdir()
        os.mkfifo(final / MANIFEST)
    else:
        (final / (MANIFEST if "manifest" in place else "payload.bin")).mkdir(parents=True)
    assert make(tmp_path).joinpath("payload.bin").read_bytes() == b"weights"
    assert (tmp_path / "prune" / "k.damaged1").exists()


def test_looking_changes_nothing(gpw: Gpw, tmp_path: Path) -> None:
    command = ("prune", *TINY, *ONE)
    assert gpw(*command).code == 0
    weights = next(tmp_path.glob(".gpw/store/pretrain/*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    unsealed(next(tmp_path.glob(".gpw/store/prune/*/")))
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    listed = gpw(*command, "--dry-run")
    assert "pretrain" in listed.out.splitlines()[0]
    assert "to run again (damaged: model.safetensors does not match" in listed.out.splitlines()[0]
    assert listed.out.splitlines()[1].endswith("stored")
    assert listed.err == ""
    swept = gpw("sweep", *TINY, "scheme=gpw", "--until", "prune", "--dry-run")
    assert "to run again (damaged" in swept.out
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before
    assert {oct(p.stat().st_mode) for p in tmp_path.rglob("*.safetensors")} == {"0o100644"}


def test_an_edited_number_reaches_no_table(gpw: Gpw, tmp_path: Path) -> None:
    command = ("sweep", *TINY, *ONE, "scheme=gpw", "--until", "prune", "--name", "s")
    assert gpw(*command).code == 0
    table = (tmp_path / "results/s/results.csv").read_text()
    manifest = next(tmp_path.glob(".gpw/store/prune/*/manifest.json"))
    accuracy = json.loads(manifest.read_text())["metrics"]["test_accuracy"]
    manifest.write_text(manifest.read_text().replace(str(accuracy), "99.0501"))
    again = gpw(*command)
    assert "it does not match its own checksum); set aside as" in again.err
    assert (tmp_path / "results/s/results.csv").read_text() == table


MEET = """
import sys
from pathlib import Path
from gpw_cli.store.store import Store
def build(work):
    (work / "payload.bin").write_bytes(b"weights")
    print("built")
    return {}
print("ready", flush=True)
sys.stdin.readline()
Store(Path(sys.argv[1])).make("prune", "k", {"parent": "9c01"}, build)
"""


def test_four_processes_meet_one_damaged_artifact(tmp_path: Path) -> None:
    (make(tmp_path) / "payload.bin").write_bytes(b"weightz")
    command = [sys.executable, "-c", MEET, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * 4, ended
    assert sorted(out for out, _ in ended) == ["", "", "", "built\n"]
    assert sorted(p.name for p in tmp_path.glob("prune/k*")) == ["k", "k.damaged1", "k.lock"]


USE = """
import sys
from pathlib import Path
from gpw_cli.store.store import Store
with Store(Path(sys.argv[1])).using(["k"]):
    print("using", flush=True)
    sys.stdin.readline()
"""


def test_cleaning_spares_what_a_living_process_uses(tmp_path: Path) -> None:
    make(tmp_path)
    Store(tmp_path).make("prune", "other", INPUTS, build)
    command = [sys.executable, "-c", USE, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "using\n"
        for dry_run in (True, False):
            found = collect(tmp_path, set(), dry_run=dry_run)
            assert [entry.key for entry in found.removed] == ["other"]
            assert [entry.key for entry in found.used] == ["k"]
            assert found.processes == {user.pid}
        user.kill()
    for _ in range(2):  # left by the kill; a dry run leaves it too
        (mark,) = tmp_path.glob(".uses/*.keys")
        collect(tmp_path, set(), dry_run=True)
    with Store(tmp_path).using(["other"]):
        assert list(tmp_path.glob(".uses/*.keys")) != [mark]
        assert len(list(tmp_path.glob(".uses/*.keys"))) == 1  # ours only
    assert [entry.key for entry in collect(tmp_path, set(), dry_run=False).removed] == ["k"]
    assert list(tmp_path.glob(".uses/*-*")) == []
    assert list(tmp_path.glob("prune/*")) == []


def test_uses_nest_and_end_with_the_outermost(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.using(["a"]):
        with store.using(["b"]):
            pass
        (keys,) = tmp_path.glob(".uses/*.keys")
        assert keys.read_text().split() == ["a", "b"]
    assert list(tmp_path.glob(".uses/*.keys")) == []


def test_the_age_of_an_artifact_is_that_of_its_last_change(tmp_path: Path) -> None:
    folder = make(tmp_path)
    for path in (folder, *folder.iterdir()):
        os.utime(path, (0, path.stat().st_mtime - 7200))
    (entry,) = entries(tmp_path)
    assert 7200 <= entry.seconds < 7260
    assert entry.made_with == "resnet20"
    assert len(collect(tmp_path, set(), dry_run=True, min_age=7300).young) == 1
    assert len(collect(tmp_path, set(), dry_run=True, min_age=7100).removed) == 1


def test_a_store_that_is_a_file_or_absent(gpw: Gpw, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = gpw("cache", "gc", "--all", "--store", "file")
    assert refused.code == 2
    assert "file is a file; name the folder" in refused.err
    assert gpw("cache", "gc", "--all", "--store", "nowhere").out.startswith(
        "nothing to remove in nowhere"
    )
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"points": 5}', '{"points": [{"id": "p", "keys": 5}]}', "{"]
)
def test_a_sweep_file_that_says_nothing_stops_a_cleaning(
    gpw: Gpw, tmp_path: Path, text: str
) -> None:
    (tmp_path / "results/s").mkdir(parents=True)
    (tmp_path / "results/s/sweep.json").write_text(text)
    for command in (("cache", "gc"), ("report", "s")):
        refused = gpw(*command)
        assert refused.code == 2
        assert "sweep.json" in refused.err
        assert len(refused.err.splitlines()) == 1


def test_a_plan_is_sealed_an_edited_one_refused_and_an_old_one_taken(tmp_path: Path) -> None:
    where = ["data=digits", f"runtime.results={tmp_path}", "sparsity=0.5,0.7"]
    sweep = plan_sweep(Request(where, name="s"))
    claim_folder(sweep)
    file = tmp_path / "s" / "sweep.json"
    text = file.read_text()
    assert text == sealed(sweep.manifest())
    claim_folder(sweep)
    file.write_text(text.replace('"0.7"', '"0.8"', 1))
    with pytest.raises(BadRecord, match="its own checksum"):
        read_sweep(file)
    with pytest.raises(UsageError, match="was edited"):
        claim_folder(sweep)
    file.write_text(json.dumps(sweep.manifest(), indent=1))  # from before plans were sealed
    claim_folder(sweep)
    assert file.read_text() == text


def test_the_report_names_an_edited_point_and_leaves_it_out(gpw: Gpw, tmp_path: Path) -> None:
    folder = tmp_path / "results/s"
    ids = write_sweep(folder, sparsities=(0.5,))
    file = folder / "points" / f"{ids[0]}.json"
    file.write_text(sealed(json.loads(file.read_text())))
    table = results_csv(load_sweep(folder)).splitlines()
    file.write_text(file.read_text().replace("91.5", "91.6"))
    edited = gpw("report", "s")
    assert edited.code == 0
    assert f"{ids[0]}: left out, {ids[0]}.json is damaged or was edited" in edited.err
    assert "does not match its own checksum" in edited.err
    after = (folder / "results.csv").read_text().splitlines()
    assert after[1].startswith(f'"{ids[0]}",failed,')
    assert after[2:] == table[2:]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stages.simulate.metrics.cycles", "x"),
        ("stages.simulate", 5),
        ("stages", []),
        ("axes", 7),
        ("axes.sparsity", "half"),
        ("stages.simulate.metrics", None),
        ("stages.prune.layers", 3),
        ("stages.finetune.history", [1]),
        ("stages.simulate.layers", [{"name": "a", "cycles": "x"}]),
        ("n_test", "many"),
        ("status", "fine"),
    ],
)
def test_values_of_another_type_in_an_old_record_are_named(
    gpw: Gpw, tmp_path: Path, path: str, value: object
) -> None:
    folder = tmp_path / "results/s"
    (first, *_) = write_sweep(folder, sparsities=(0.5,), npu=True)
    file = folder / "points" / f"{first}.json"
    record = part = json.loads(file.read_text())
    *before, last = path.split(".")
    for key in before:
        part = part[key]
    part[last] = value
    file.write_text(json.dumps(record))
    assert load_sweep(folder).damaged.keys() == {first}


def test_a_running_command_keeps_the_artifacts_it_needs(tmp_path: Path) -> None:
    given = ["data=digits", "pretrain.train.epochs=0", *ONE, f"runtime.root={tmp_path}"]
    root, found = tmp_path / "store", []

    class Cleaning(Silent):
        def stage(self, stage: str, metrics: object, what: str = "") -> None:
            if stage == "prune" and metrics is None:  # it begins: pre-training is in the store
                found.append(collect(root, set(), dry_run=False))

    config = compose(given)
    run(config, open_services(config, Cleaning()), "prune")
    assert len(found) == 1
    assert found[0].removed == []
    assert [(e.stage, e.state) for e in found[0].used] == [
        ("pretrain", "complete"),
        ("prune", "partial"),
    ]
    assert found[0].processes == {os.getpid()}
