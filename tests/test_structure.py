"""The arrows between packages: who may import whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import gpw_cli
from gpw_cli.targets.registry import FAMILIES

PACKAGE = Path(gpw_cli.__file__).parent
#: A package may import those of the levels below its own, itself, and ``EVERYWHERE``.
LEVELS = (
    {"cli", "__init__"},
    {"api"},
    {"sweep", "report"},
    {"stages"},
    {"training", "quantization"},
    {"config"},
    {"targets", "pruning"},
    {"graph", "tracking"},
    {"data"},
    {"models"},
    {"store", "plugins"},
)
EVERYWHERE = {"errors", "arrays"}
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
