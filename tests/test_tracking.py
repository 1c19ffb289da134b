from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Gpw, Ran

from gpw_cli.config.compose import compose
from gpw_cli.stages.pipeline import plan
from gpw_cli.tracking.base import Destination, Ending, StageRun
from gpw_cli.tracking.mlflow import DEFAULTS
from gpw_cli.tracking.registry import TRACKERS, TrackerModule, TrackerName, open_tracker
from gpw_cli.tracking.session import Trackers

# One training of less than a second: 8x8 digits, large batches.
SMALL = (
    "data=digits",
    "data.size=8",
    "pretrain.train.batch_size=256",
    "finetune.train.batch_size=256",
    "pretrain.train.epochs=2",
    "finetune.train.epochs=1",
)
UNTRAINED = (*SMALL, "pretrain.train.epochs=0")
TENSORBOARD, MLFLOW = "runtime.trackers=[tensorboard]", "runtime.trackers=[mlflow]"
BOTH = "runtime.trackers=[tensorboard,mlflow]"
INSTALLED = [name for name in TRACKERS if importlib.util.find_spec(TRACKERS[name].package)]
Curves = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's MLflow settings, nor ours left behind."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    for name in (*DEFAULTS, "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def event_files(root: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in root.glob("tensorboard/*/events*")}


def tensorboard_curves(root: Path, stage: str) -> Curves:
    module = "tensorboard.backend.event_processing.event_accumulator"
    accumulator = pytest.importorskip(module).EventAccumulator
    (folder,) = root.glob(f"tensorboard/{stage}-*")
    events = accumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def mlflow_runs(root: Path, experiment: str = "gpw") -> dict[str, Any]:
    """Run name -> run, of a folder that gpw chose."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(root / "mlruns").absolute().as_uri())
    (found,) = [e for e in client.search_experiments() if e.name == experiment]
    runs = client.search_runs([found.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name.partition("-")[0]: (client, run) for run in runs}


def mlflow_curves(root: Path, stage: str) -> Curves:
    client, run = mlflow_runs(root)[stage]
    histories = {tag: client.get_metric_history(run.info.run_id, tag) for tag in run.data.metrics}
    return {tag: [(m.step, m.value) for m in history] for tag, history in histories.items()}


READ = {TrackerName.tensorboard: tensorboard_curves, TrackerName.mlflow: mlflow_curves}


def stored(root: Path, stage: str) -> tuple[dict[str, Any], Path]:
    (manifest,) = root.glob(f"store/{stage}/*/manifest.json")
    return json.loads(manifest.read_text()), manifest.parent


def rows(root: Path, stage: str) -> list[dict[str, Any]]:
    lines = (stored(root, stage)[1] / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def check_curves(curves: Curves, root: Path, stage: str) -> None:
    """Every row of ``metrics.jsonl`` once and in order, and the stage's result."""
    history = rows(root, stage)
    for name in ("loss", "train_accuracy", "test_accuracy", "lr", "seconds"):
        expected = [(row["epoch"], row[name]) for row in history if row[name] is not None]
        assert curves[f"epoch/{name}"] == [(step, pytest.approx(v)) for step, v in expected]
    accuracy = stored(root, stage)[0]["metrics"]["test_accuracy"]
    assert curves["test_accuracy"] == [(0, pytest.approx(accuracy))]


def without_times(root: Path) -> dict[str, Any]:
    """All that a store holds but the clock: payload bytes, and manifests without durations."""
    found: dict[str, Any] = {}
    for file in sorted(root.glob("store/*/*/*")):
        name = str(file.relative_to(root))
        if file.name == "manifest.json":
            manifest = json.loads(file.read_text())
            del manifest["finished"], manifest["seconds"], manifest["config"]["runtime"]["root"]
            manifest["files"].pop("metrics.jsonl", None)
            del manifest["sha256"]  # of the times too
            found[name] = manifest
        elif file.name == "metrics.jsonl":
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            found[name] = [{**line, "seconds": None} for line in lines]
        else:
            found[name] = file.read_bytes()
    return found


def test_tensorboard_has_what_the_store_has_and_the_store_is_unchanged(
    gpw: Gpw, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    command = ("run", *SMALL, "simulate.images=20")
    ran = gpw(*command, TENSORBOARD)
    assert ran.code == 0, ran.err
    root = tmp_path / ".gpw"
    for stage in ("pretrain", "finetune"):
        check_curves(tensorboard_curves(root, stage), root, stage)
    simulated = tensorboard_curves(root, "simulate")
    metrics = stored(root, "simulate")[0]["metrics"]
    assert simulated["cycles"] == [(0, metrics["cycles"])]
    assert simulated["bound.COMPUTE"] == [(0, metrics["bound"]["COMPUTE"])]
    assert "sparsity" not in tensorboard_curves(root, "prune")  # a parameter, no result
    before = event_files(root)
    assert len({Path(file).parent for file in before}) == 6
    assert gpw(*command, TENSORBOARD).code == 0
    assert event_files(root) == before  # what is cached logs nothing

    assert gpw(*command, "runtime.root=plain").code == 0
    assert without_times(tmp_path / "plain") == without_times(root)
    assert os.listdir(tmp_path / "plain") == ["store"]


def hparams(folder: Path) -> dict[str, Any]:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = event_accumulator.EventAccumulator(str(folder)).Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    started = HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in started.items()}


def test_a_run_holds_every_parameter_that_its_key_depends_on(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from gpw_cli.stages.pipeline import tracked

    steps = plan(compose([*SMALL, "sparsity=0.7", "seed=3"]), "finetune")
    run = tracked(steps, 3)
    assert run.name == f"finetune-{steps[-1].key}"
    tracker = open_tracker(TrackerName.tensorboard, run, Destination(tmp_path))
    tracker.finish({"test_accuracy": 90.0})
    tracker.close("finished")
    found = hparams(tmp_path / "tensorboard" / run.name)
    assert found["prune.sparsity"] == 0.7
    assert found["pretrain.train.batch_size"] == 256
    assert found["finetune.train.milestones"] == "[]"
    assert found["seed"] == 3
    assert found["commit"] == (run.commit or "unknown")
    assert len(found) == len(run.parameters) + 2


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("logged", [False, True])
def test_an_interrupted_run_goes_on_without_a_gap_or_a_repeat(
    gpw: Gpw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: TrackerName, logged: bool
) -> None:
    """The checkpoint of epoch 1 is written; its row was already logged, or was not."""
    command = ("pretrain", *SMALL, f"runtime.trackers=[{name}]")
    with monkeypatch.context() as patched:
        patched.setattr("gpw_cli.tracking.session.open_tracker", stopping_after(1, logged))
        assert gpw(*command).code == 130
    root = tmp_path / ".gpw"
    assert list(root.glob("store/pretrain/*.partial/last.safetensors"))
    again = gpw(*command)
    assert again.code == 0, again.err
    assert "epoch 1/2" not in again.err
    check_curves(READ[name](root, "pretrain"), root, "pretrain")
    if not logged:
        return
    # the artifact is lost and made again: the same run, and nothing new to say
    shutil.rmtree(stored(root, "pretrain")[1])
    before = READ[name](root, "pretrain")
    assert gpw(*command).code == 0
    assert READ[name](root, "pretrain") == before


def stopping_after(epoch: int, logged: bool) -> Callable[..., Any]:
    """``open_tracker``, but Ctrl-C comes in an epoch: after its row was logged, or before."""

    def opened(name: TrackerName, run: StageRun, place: Destination) -> Any:
        tracker = open_tracker(name, run, place)
        log = tracker.log

        def stop(step: int, values: Mapping[str, float]) -> None:
            if logged:
                log(step, values)
            if step == epoch:
                raise KeyboardInterrupt

        monkey: Any = tracker
        monkey.log = stop
        return tracker

    return opened


def test_killed_with_minus_nine_and_started_again(gpw: Gpw, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    command = ("pretrain", *SMALL, TENSORBOARD)
    with subprocess.Popen(
        [sys.executable, "-m", "gpw_cli", *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("pretrain  epoch 1/2"):
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    root = tmp_path / ".gpw"
    for file in root.glob("tensorboard/*/events*"):  # as a machine that lost its power leaves it
        with file.open("ab") as stream:
            stream.write(file.read_bytes()[:7])
    again = gpw(*command)
    assert again.code == 0, again.err
    assert "epoch 1/2" not in again.err
    check_curves(tensorboard_curves(root, "pretrain"), root, "pretrain")


class Fake:
    """A tracker whose server goes down in epoch 2; opened once a stage."""

    calls: list[str]

    def __init__(self, run: StageRun) -> None:
        self.calls.append(f"open {run.stage}")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.calls.append(f"log {step}")
        if step == 2:
            raise ConnectionError("no answer\nafter 3 tries")

    def finish(self, metrics: Mapping[str, float]) -> None:
        self.calls.append("finish")

    def close(self, state: Ending) -> None:
        self.calls.append(state)
        raise ConnectionError("still no answer")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the fake that stands in for MLflow is asked to do."""
    Fake.calls = []
    monkeypatch.setattr(sys.modules[__name__], "open_run", lambda run, _: Fake(run), raising=False)
    monkeypatch.setitem(TRACKERS, TrackerName.mlflow, TrackerModule(__name__, "json", "mlflow"))
    return Fake.calls


def test_a_tracker_that_fails_in_the_middle_costs_one_line(
    gpw: Gpw, tmp_path: Path, fake: list[str]
) -> None:
    pytest.importorskip("tensorboard")
    ran = gpw("finetune", *SMALL, BOTH)
    assert ran.code == 0, ran.err
    (line,) = [line for line in ran.err.splitlines() if "mlflow" in line]
    assert line == "mlflow failed and is not used again in this process: no answer"
    assert "Traceback" not in ran.err
    assert fake == ["open pretrain", "log 1", "log 2", "failed"]
    root = tmp_path / ".gpw"
    for stage in ("pretrain", "finetune"):  # the other tracker and the artifacts have everything
        check_curves(tensorboard_curves(root, stage), root, stage)


def test_a_full_disk_under_tensorboard_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    from gpw_cli.training.loop import EpochRecord

    said: list[str] = []
    trackers = Trackers([TrackerName.tensorboard], Destination(tmp_path), said.append)
    with trackers.stage(StageRun("pretrain", "k")) as session:
        session.epoch(EpochRecord(1, 0.5, 90.0, None, 0.1, 1.0))
        (file,) = tmp_path.glob("tensorboard/pretrain-k/events*")
        file.unlink()
        file.symlink_to("/dev/full")
        session.epoch(EpochRecord(2, 0.5, 90.0, None, 0.1, 1.0))
        session.epoch(EpochRecord(3, 0.5, 90.0, None, 0.1, 1.0))
    assert said == [
        "tensorboard failed and is not used again in this process: "
        "[Errno 28] No space left on device"
    ]
    assert trackers.names == []
    assert "Traceback" not in capfd.readouterr().err  # nor from the writer's own thread


def test_a_folder_that_cannot_be_written_does_not_stop_the_stage(gpw: Gpw, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("")
    ran = gpw("prune", *UNTRAINED, TENSORBOARD, "runtime.tracking=file")
    assert ran.code == 0, ran.err
    assert ran.err.count("tensorboard failed") == 1
    assert stored(tmp_path / ".gpw", "prune")[0]["metrics"]["groups_removed"] > 0


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_missing_extra_is_refused_before_any_work(
    gpw: Gpw,
    one_line: Callable[[Ran], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    for package in ("tensorboard", "mlflow"):
        monkeypatch.setitem(sys.modules, package, None)
    assert "pip install 'gpw[tensorboard]'" in one_line(gpw(command, *SMALL, TENSORBOARD))
    said = one_line(gpw(command, *SMALL, BOTH))
    assert "pip install 'gpw[tensorboard]'" in said
    assert "pip install 'gpw[mlflow]'" in said
    assert not list(tmp_path.iterdir())


def test_trackers_and_places_that_are_refused(gpw: Gpw, one_line: Callable[[Ran], str]) -> None:
    unknown = one_line(gpw("run", *SMALL, "runtime.trackers=[wandb]"))
    assert "'wandb', expected one of [tensorboard, mlflow]" in unknown
    no_list = one_line(gpw("run", *SMALL, "runtime.trackers=tensorboard"))
    assert "runtime.trackers=[tensorboard]" in no_list
    pytest.importorskip("tensorboard")
    address = "runtime.tracking=http://127.0.0.1:9"
    assert "only mlflow takes one" in one_line(gpw("run", *SMALL, TENSORBOARD, address))


def test_trackers_are_in_no_key_and_no_manifest(gpw: Gpw, tmp_path: Path, fake: list[str]) -> None:
    plain = [step.key for step in plan(compose(SMALL))]
    assert [step.key for step in plan(compose([*SMALL, MLFLOW]))] == plain
    secret = "runtime.tracking='http://me:secret@127.0.0.1:9'"
    assert gpw("prune", *UNTRAINED, MLFLOW, secret).code == 0
    assert "secret" not in json.dumps(stored(tmp_path / ".gpw", "prune")[0])
    assert fake[0] == "open pretrain"


def test_every_process_of_a_sweep_logs_its_own_stages(gpw: Gpw, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    grid = ("scheme=gpw", "sparsity=0.5,0.9", "--until", "prune", "--jobs", "2")
    ran = gpw("sweep", *SMALL, *grid, TENSORBOARD)
    assert ran.code == 0, ran.err
    root = tmp_path / ".gpw"
    check_curves(tensorboard_curves(root, "pretrain"), root, "pretrain")
    pruned = {folder.name for folder in root.glob("tensorboard/prune-*")}
    assert pruned == {f"prune-{folder.parent.name}" for folder in root.glob("store/prune/*/*.json")}
    assert len(pruned) == 2


def test_mlflow_has_what_the_store_has(
    gpw: Gpw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    command = ("finetune", *SMALL, "sparsity=0.7", "seed=3", MLFLOW)
    ran = gpw(*command, "--json")
    assert ran.code == 0, ran.err
    assert sorted(ran.json) == ["finetune", "pretrain", "prune"]  # stdout holds nothing else
    root = tmp_path / ".gpw"
    for stage in ("pretrain", "finetune"):
        check_curves(mlflow_curves(root, stage), root, stage)
    _, run = mlflow_runs(root)["finetune"]
    assert run.info.status == "FINISHED"
    assert run.data.params["prune.sparsity"] == "0.7"
    assert run.data.params["finetune.train.lr"] == "0.05"
    assert run.data.tags["gpw.key"] == ran.json["finetune"]["key"]
    assert run.data.tags["gpw.seed"] == "3"
    assert run.data.tags["mlflow.source.git.commit"]
    # the runs are thrown away, and an artifact: a new run instead of the one that is gone
    for _, thrown_away in mlflow_runs(root).values():
        shutil.rmtree(next(root.glob(f"mlruns/*/{thrown_away.info.run_id}")))
    shutil.rmtree(stored(root, "finetune")[1])
    assert gpw(*command).code == 0
    check_curves(mlflow_curves(root, "finetune"), root, "finetune")
    assert set(mlflow_runs(root)) == {"finetune"}


def test_mlflow_keeps_its_own_settings(
    gpw: Gpw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "theirs" / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert gpw("pretrain", *UNTRAINED, MLFLOW, "runtime.root=b").code == 0
    assert set(mlflow_runs(tmp_path / "theirs", "mine")) == {"pretrain"}
    assert not (tmp_path / "b" / "mlruns").exists()


def test_an_mlflow_server_that_is_down_costs_one_line(
    gpw: Gpw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    ran = gpw("prune", *UNTRAINED, MLFLOW, "runtime.tracking=http://127.0.0.1:9")
    assert ran.code == 0, ran.err
    assert ran.err.count("mlflow failed and is not used again") == 1
    assert stored(tmp_path / ".gpw", "prune")[0]["metrics"]["groups_removed"] > 0
