"""The arrows between packages: who may import whom."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import cast, get_type_hints

import gpw_cli
from gpw_cli.config.paths import conf_dir, options
from gpw_cli.config.target import load_target
from gpw_cli.models.catalog import declared
from gpw_cli.pruning.criteria import Criterion
from gpw_cli.pruning.groups import Scheme
from gpw_cli.targets.base import TargetConfig
from gpw_cli.targets.registry import FAMILIES, config_class
from gpw_cli.targets.vta.isa.geometry import VtaSpec

PACKAGE = Path(gpw_cli.__file__).parent
#: A package may import those of the levels below its own, itself, and ``EVERYWHERE``.
LEVELS = (
    {"cli", "__init__"},
    {"api"},
    {"sweep", "report", "api_checks", "api_pruning"},
    {"stages"},
    {"training", "quantization"},
    {"config"},
    {"targets", "pruning"},
    {"graph", "tracking"},
    {"data"},
    {"models"},
    {"store", "plugins"},
)
EVERYWHERE = {"errors", "arrays", "threads"}
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
#: These know even less than their level lets them.
NARROW = {
    "report": {"store"},
    "store": set[str](),
    "tracking": {"store"},
    "config": {"models", "plugins", "pruning", "targets", "tracking"},
}


def arrows() -> Iterator[tuple[str, str]]:
    """(module, imported module), dotted and without "gpw_cli.", wherever in the file it stands."""
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gpw_cli."):
                yield module, str(node.module).removeprefix("gpw_cli.")


def package(module: str) -> str:
    return module.split(".")[0]


def test_imports_go_down_the_levels_only() -> None:
    between = {(package(a), package(b)) for a, b in arrows()}
    between = {(a, b) for a, b in between if a not in (b, "__main__") and b not in EVERYWHERE}
    assert {name for pair in between for name in pair} == set(LEVEL)
    assert {(a, b) for a, b in between if LEVEL[a] >= LEVEL[b]} == set()
    assert {(a, b) for a, b in between if a in NARROW and b not in NARROW[a]} == set()


def test_a_family_of_npus_is_its_package_and_one_line_of_the_registry() -> None:
    for family in FAMILIES.values():
        own = PACKAGE.parent.joinpath(*family.package.split("."))
        named = {
            file.relative_to(PACKAGE).as_posix(): file.read_text(encoding="utf-8")
            for file in PACKAGE.rglob("*.py")
            if own not in file.parents
        }
        found = {file: text.count(family.package) for file, text in named.items()}
        assert {file: n for file, n in found.items() if n} == {"targets/registry.py": 1}


@cache
def names() -> frozenset[tuple[str, str, str]]:
    """(file, X, Y) of every ``X.Y``, and (file, "", text) of every string constant."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        name = file.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Attribute(value=ast.Name(id=owner), attr=attr):
                    found.add((name, owner, attr))
                case ast.Constant(value=str(text)):
                    found.add((name, "", text))
    return frozenset(found)


def defaults(kind: type) -> set[str]:
    """Fields with a default, of a dataclass and of those inside it."""
    found = set()
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        if is_dataclass(hint):
            found |= defaults(cast(type, hint))
        if field.default is not MISSING or field.default_factory is not MISSING:
            found.add(f"{kind.__name__}.{field.name}")
    return found


def test_the_defaults_of_a_target_are_in_its_yaml_only() -> None:
    schemas = [config_class(family) for family in FAMILIES]
    assert [defaults(kind) for kind in (*schemas, VtaSpec)] == [set[str]()] * (len(schemas) + 1)
    for name in options("target"):  # each says, or inherits, every value
        assert load_target(name, TargetConfig).name == name


def naming(member: str) -> set[str]:
    """Files with ``Scheme.NAME``, ``Criterion.NAME`` or the name as a string; colours do not count,
    since the report gives one to any scheme.
    """
    kinds = {"", type(member).__name__}
    return {file for file, kind, name in names() if name == member and kind in kinds} - {
        "report/looks.py"
    }


def test_a_scheme_is_a_line_of_its_table_and_one_yaml() -> None:
    ours = [scheme for scheme in Scheme if scheme.value not in ("dense", "gpw", "block")]
    assert len(ours) == 4  # but for the dense network and the default grid of a sweep
    assert {scheme.value: naming(scheme) for scheme in ours} == {
        scheme.value: {"pruning/groups.py"} for scheme in ours
    }
    files = {file.stem for file in (conf_dir() / "pruning").glob("*.yaml")}
    assert {scheme.value for scheme in Scheme} == files


def test_a_criterion_is_an_entry_of_its_table() -> None:
    ours = [criterion for criterion in Criterion if criterion is not Criterion.l1]  # the default
    assert len(ours) == 2
    assert {name for criterion in ours for name in naming(criterion)} == {"pruning/criteria.py"}


def test_a_network_is_one_file_and_one_yaml() -> None:
    ours = [name for name in declared() if not name.startswith("resnet")]  # resnet20 is the default
    assert {name: naming(name) for name in ours} == {
        "digits_cnn": {"models/digits_cnn.py"},
        "mlp": {"models/mlp.py"},
        "alexnet_classifier": {"models/mlp.py"},
    }
    assert {*declared()} <= {file.stem for file in (conf_dir() / "model").glob("*.yaml")}


TINY = """
from torch import nn

NETWORKS = {"tiny": (1, 16)}


def build_network(wanted):
    convolution = nn.Conv2d(wanted.in_channels, 16, 16)
    return nn.Sequential(convolution, nn.Flatten(), nn.Linear(16, wanted.classes))
"""


def test_a_file_and_a_yaml_add_a_network(tmp_path: Path) -> None:
    left_out = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(PACKAGE, tmp_path / "gpw_cli", ignore=left_out)
    shutil.copytree(conf_dir(), tmp_path / "conf")
    (tmp_path / "gpw_cli" / "models" / "tiny_network.py").write_text(TINY)
    (tmp_path / "conf" / "model" / "tiny.yaml").write_text("name: tiny\n")
    command = [sys.executable, "-m", "gpw_cli", "cycles", "model=tiny", "scheme=dense", "--json"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, timeout=120)
    assert ran.returncode == 0, ran.stderr.decode()
    layers = json.loads(ran.stdout)["layers"]
    assert [layer["cycles"] > 0 for layer in layers] == [True, True]


def test_a_class_name_has_one_meaning() -> None:
    owners: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                owners.setdefault(node.name, set()).add(file.relative_to(PACKAGE).as_posix())
    shared = {name: files for name, files in owners.items() if len(files) > 1}
    assert {*shared} == {"Simulator"}  # of EIE and of VTA: base.Simulates


def test_the_tree_of_targets_in_the_readme_is_true() -> None:
    readme = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    tree = readme.split("gpw_cli/targets/\n", 1)[1].split("```", 1)[0].splitlines()
    assert len(tree) < 10  # ten lines with its first
    folders = [
        word for line in tree for word in line.strip().split("   ")[0].split() if "/" in word
    ]
    targets = PACKAGE / "targets"
    inside = {path.parent.name + "/" for path in targets.rglob("__init__.py")}
    assert {*folders} == inside - {"targets/"}


VTA = "targets.vta."
#: A wing of the VTA package and what it may import of the package.
WINGS = {
    "isa": set[str](),
    "lowering": {"isa"},
    "check": {"isa"},
    "timing": {"isa", "config"},
    "functional": {"isa", "check"},
}


def test_the_wings_of_vta_know_what_stands_below_them_only() -> None:
    inside = [(a, b) for a, b in arrows() if a.startswith(VTA) and b.startswith(VTA)]
    between = {(a.removeprefix(VTA).split(".")[0], b.removeprefix(VTA)) for a, b in inside}
    found = {(a, b.split(".")[0]) for a, b in between if a in WINGS}
    allowed = {(a, b) for a, below in WINGS.items() for b in below | {a}}
    assert ("timing", "isa") in found
    assert found <= allowed


#: Where the word "picture" stays: it is written in files that exist, which are read by this name.
OLD_WORD = {
    ("targets/base.py", "pictures"),  # timing.json
    ("quantization/ranges.py", "pictures"),  # the file of calibrated ranges
    ("stages/teacher.py", "pictures"),  # the key of a teacher's cached logits
    (
        "stages/simulate.py",
        "pictures_per_run",
    ),  # a metric of stage simulate; the next three read it
    ("cli/simulate.py", "pictures_per_run"),
    ("report/frame.py", "pictures_per_run"),
    ("report/passes.py", "pictures_per_run"),
}


def test_images_are_called_images() -> None:
    found, written = set(), set()
    for file in PACKAGE.rglob("*.py"):
        name = file.relative_to(PACKAGE).as_posix()
        text = file.read_text(encoding="utf-8")
        found |= {(name, word) for word in re.findall(r"(?i)\w*picture\w*", name + " " + text)}
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant):
                written |= {(name, part) for part in str(node.value).split(".")}
    assert found == OLD_WORD
    assert found <= written  # no identifiers
