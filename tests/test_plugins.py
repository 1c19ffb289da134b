"""Plug-ins: the example package of ``plugin_package``, and packages that are broken."""

from __future__ import annotations

import json
import pickle
import re
import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from conftest import Gpw, Ran

from gpw_cli.config.compose import compose
from gpw_cli.errors import UsageError
from gpw_cli.pruning.allocation import Scope
from gpw_cli.pruning.criteria import Criterion
from gpw_cli.pruning.groups import Scheme, group_layout
from gpw_cli.pruning.masks import prune_masks
from gpw_cli.stages.inputs import npu_identity, pretrain, prune

PACKAGE = Path(__file__).parent / "plugin_package"
PROJECT = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
STRIPES = ("data=stripes", "model=tiny", "train=digits", "pretrain.train.epochs=0")
Entries = Mapping[str, Mapping[str, str]]
OneLine = Callable[[Ran], str]


def install(site: Path, name: str, version: str, entries: Entries) -> None:
    """The metadata that pip leaves."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        line
        for group, own in entries.items()
        for line in (f"[{group}]", *(f"{key} = {value}" for key, value in own.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example package, installed."""
    install(tmp_path / "site", PROJECT["name"], PROJECT["version"], PROJECT["entry-points"])
    monkeypatch.syspath_prepend(str(PACKAGE))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``other("gpw.criteria", x="module:name")`` installs a package other 2.0."""

    def put(group: str, code: str = "", name: str = "other", **entries: str) -> None:
        install(tmp_path / name, name, "2.0", {group: entries})
        (tmp_path / name / "other_code.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path / name))
        monkeypatch.delitem(__import__("sys").modules, "other_code", raising=False)

    return put


@pytest.mark.usefixtures("example")
def test_what_packages_add_is_listed_with_the_package(gpw: Gpw) -> None:
    rows = gpw("ls", "--json").json["plug-ins"]
    found = {(row["kind"], row["name"], row["package"], row["note"]) for row in rows}
    names = ("largest", "row", "tiny", "stripes", "adder")
    kinds = ("criterion", "scheme", "network", "data set", "target family")
    assert found == {(k, n, "gpw-example 1.0", "") for k, n in zip(kinds, names, strict=True)}
    assert (
        "[l1, l2, taylor, largest (gpw-example 1.0)]"
        in gpw("config", "criterion=largest", "--describe", "pruning.criterion").out
    )
    assert "stripes      a plug-in of gpw-example 1.0" in gpw("data", "ls").out


@pytest.mark.usefixtures("example")
def test_a_criterion_and_a_scheme_choose_the_masks() -> None:
    weight = torch.full((8, 4, 3, 3), 0.1)
    weight[:4, :, 0, 1] = 1.0  # one large weight saves its row of four channels
    weight[4:, :, 2, :] = 0.3
    result = prune_masks(
        {"a.weight": weight},
        ["a.weight"],
        scheme=Scheme("row"),
        sparsity=Decimal("0.5"),
        scope=Scope.layer,
        criterion=Criterion("largest"),
        tile=(4, 4),
    )
    assert result.layers[0].grid == (2, 1, 3, 1)
    assert result.layers[0].kept[:, 0, :, 0].tolist() == [[True, False, False], [False, True, True]]


@pytest.mark.usefixtures("example")
def test_members_of_plug_ins_are_one_object_and_survive_a_pickle() -> None:
    member = Criterion["largest"]
    assert member is Criterion("largest")
    assert pickle.loads(pickle.dumps(member)) is member
    assert [c.value for c in Criterion] == ["l1", "l2", "taylor"]
    with pytest.raises(UsageError, match="no criterion 'nothing': expected one of l1, l2, taylor"):
        Criterion["nothing"]


@pytest.mark.usefixtures("example")
def test_keys_hold_the_package_of_what_is_used_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "own/pruning").mkdir(parents=True)
    (tmp_path / "own/pruning/mine.yaml").write_text("scheme: row\ncriterion: largest\n")
    ours, one = compose(["data=digits"]), compose(["data=digits", "criterion=largest"])
    both = compose(["data=digits", "pruning=mine"], tmp_path / "own")
    assert "plugins" not in prune(ours)
    assert prune(one)["plugins"] == {"criterion": "gpw-example 1.0"}
    assert prune(both)["plugins"] == {"criterion": "gpw-example 1.0", "scheme": "gpw-example 1.0"}
    assert prune(both)["scheme"] == "row"
    config = compose([*STRIPES, "target=adder", "target.lanes=4"])
    identity = pretrain(config)
    assert identity["model"]["name"] == {"plugin": "tiny", "package": "gpw-example 1.0"}
    assert identity["data"] == {
        "name": "stripes", "size": 16, "channels": 1, "plugin": "gpw-example 1.0"
    }  # fmt: skip
    assert npu_identity(config)["plugin"] == "gpw-example 1.0"
    assert (npu_identity(config)["family"], npu_identity(config)["lanes"]) == ("adder", 4)
    assert "plugin" not in npu_identity(ours)


@pytest.mark.usefixtures("example")
def test_all_five_in_worker_processes(gpw: Gpw, tmp_path: Path) -> None:
    mine = ("scheme=row", "criterion=largest", "target=adder", "finetune.train.epochs=0")
    ran = gpw("sweep", *STRIPES, *mine, "sparsity=0.5,0.75", "--jobs", "2", "--name", "all")
    assert ran.code == 0, ran.err
    points = [json.loads(f.read_text()) for f in sorted(tmp_path.glob("results/all/points/*"))]
    cycles = [point["stages"]["simulate"]["metrics"]["cycles"] for point in points]
    assert len(cycles) == 3
    assert 0 < cycles[2] < cycles[1] < cycles[0]  # the dense network first
    assert points[1]["stages"]["prune"]["metrics"]["criterion"] == "largest"


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("criterion=larges", "expected one of l1, l2, taylor, largest; did you mean 'largest'?"),
        ("scheme=rows", "did you mean 'row'?"),
        ("model=tinny", "did you mean 'tiny'?"),
        ("data=stripe", "did you mean 'stripes'?"),
        ("target=addr", "did you mean 'adder'?"),
        ("data.name=stripe", "did you mean stripes?"),
    ],
)
@pytest.mark.usefixtures("example")
def test_unknown_names_are_answered_with_those_of_plug_ins(
    gpw: Gpw, one_line: OneLine, given: str, near: str
) -> None:
    command = ("prune", "--dry-run") if given.startswith("data.") else ("config",)
    assert near in one_line(gpw(*command, given))


@pytest.mark.parametrize(
    ("group", "code", "override", "words"),
    [
        ("criteria", None, "criterion=x", "criterion 'x' of other 2.0 (other_code:x) cannot be"),
        ("criteria", "1 / 0", "criterion=x", "ZeroDivisionError: division by zero"),
        ("criteria", "x = 5", "criterion=x", "is a int, not a gpw_cli.pruning.criteria.Scoring"),
        ("schemes", "import sys; sys.exit(3)", "scheme=x", "SystemExit: 3"),
        ("schemes", "x = 5", "scheme=x", "is a int, not a gpw_cli.pruning.groups.Grouping"),
        ("networks", "x = 5", "model=x", "is of type int, no class or function"),
        ("datasets", "x = 5", "data=x", "is a int, not a gpw_cli.data.catalog.DataSet"),
        ("targets", "x = 5", "target=x", "is a int, not a gpw_cli.targets.registry.Family"),
        (
            "targets",
            "from gpw_cli.targets.registry import Family\nx = Family('nothing', 'A', 'B')",
            "target=x",
            "nothing.config.A cannot be loaded: ModuleNotFoundError",
        ),
    ],
)
def test_a_broken_plug_in_is_one_line(
    gpw: Gpw,
    one_line: OneLine,
    other: Callable[..., None],
    group: str,
    code: str | None,
    override: str,
    words: str,
) -> None:
    other(f"gpw.{group}", code or "", x="other_code:x" if code != "" else "gone:x")
    command = ("prune", "--dry-run") if group == "datasets" else ("cycles", "data=digits")
    assert words in one_line(gpw(*command, override))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "from gpw_cli.pruning.criteria import Scoring\nx = Scoring(lambda rows: [][0])",
            "criterion 'x' of other 2.0: IndexError: list index out of range (other_code.py, line",
        ),
        (
            "from gpw_cli.pruning.criteria import Scoring\nx = Scoring(lambda rows: next(rows))",
            "saliency is float64 [256, ",
        ),
    ],
)
def test_an_error_at_work_is_one_line(
    gpw: Gpw, one_line: OneLine, other: Callable[..., None], code: str, words: str
) -> None:
    other("gpw.criteria", code, x="other_code:x")
    assert words in one_line(gpw("cycles", "data=digits", "criterion=x"))


@pytest.mark.parametrize("group", ["(4, 4, 0, 1)", "(4, 4, 1)", "[4, 4, 1, 1]", "(4, 4.5, 1, 1)"])
def test_what_is_no_group_is_refused_with_the_plug_in(
    other: Callable[..., None], group: str
) -> None:
    code = "from gpw_cli.pruning.groups import Grouping\nx = Grouping(lambda *_: GROUP)"
    other("gpw.schemes", code.replace("GROUP", group), x="other_code:x")
    shown = re.escape(f"scheme 'x' of other 2.0: a group of a weight [8, 4, 3, 3] is {group}")
    with pytest.raises(UsageError, match=shown):
        group_layout(Scheme("x"), (8, 4, 3, 3), (4, 4))


def test_built_in_names_stay_and_two_packages_with_one_name_are_refused(
    gpw: Gpw, one_line: OneLine, other: Callable[..., None]
) -> None:
    other("gpw.criteria", "x = 5", l1="other_code:x", x="other_code:x")
    assert compose(["criterion=l1"]).pruning.criterion is Criterion.l1
    other("gpw.criteria", "x = 5", name="another", x="other_code:x")
    refused = one_line(gpw("config", "criterion=x"))
    assert "criterion 'x' comes from another 2.0 and other 2.0: uninstall all but one" in refused
    notes = {(row["name"], row["note"]) for row in gpw("ls", "--json").json["plug-ins"]}
    assert notes == {
        ("l1", "; not used: the name is built in"),
        ("x", "; several packages bring it"),
    }
    other("gpw.datasets", "x = 5", name="third", digits="other_code:x")
    assert [row["name"] for row in gpw("data", "ls", "--json").json].count("digits") == 1


def test_metadata_is_not_read_for_built_in_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UsageError("read")

    monkeypatch.setattr("gpw_cli.plugins._read", refuse)
    config = compose(["data=digits", "model=resnet18", "scheme=block", "target=nvdla_small"])
    prune(config)
    npu_identity(config)
    with pytest.raises(UsageError, match="read"):
        compose(["data=digits", "criterion=largest"])
