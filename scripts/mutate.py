"""Mutation testing: whether the tests detect a changed operator, number or branch.

    python scripts/mutate.py --count 60 --seed 0 --out mutants.jsonl    # continues where it stopped
    python scripts/mutate.py --out mutants.jsonl --report               # counts, survivors' changes
    python scripts/mutate.py --only gpw_cli/pruning/masks.py --count 20 --out masks.jsonl
    python scripts/mutate.py --only gpw_cli/pruning gpw_cli/store --by-lines --count 20

Draws ``--count`` random mutants of the packages in TESTS, or of those given; with ``--by-lines`` as
many of each as its share of the lines. Each is applied to a copy of the
checkout, where the tests of its package run, the cheapest first, up to the first failure. A mutant
is killed if that test passes without it. ``--out`` has one JSON object per mutant; mutants of files
that have changed since are run again.

The existing tools do not fit. cosmic-ray (8.7) starts an interpreter for each mutant, with one test
command for all, and importing torch takes seconds. mutmut (3.8) skips decorated functions, such as
all properties here, and selects tests by a run of the whole suite, which takes a quarter of an
hour. Neither draws a sample from a seed. Here one process imports the libraries and forks a child
for each mutant.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import hypothesis  # noqa: F401 - imported once, before the forks
import numpy as np  # noqa: F401
import omegaconf  # noqa: F401
import pandas as pd  # noqa: F401
import pytest
import torch  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
CPU_SECONDS, SECONDS = 120, 3600  # for the tests of one mutant; more counts as an endless loop
BYTES = 12 << 30  # of address space, for mutants that allocate without end
#: The tests of each file or folder, the cheapest first; the first match applies.
TESTS = {
    "gpw_cli/pruning/budget": ("knapsack", "budget", "cycles"),
    "gpw_cli/pruning/fill": ("knapsack", "budget", "budget_fill"),
    "gpw_cli/pruning/knapsack": ("knapsack", "budget"),
    "gpw_cli/pruning/norms": ("pruning_edges", "dead"),
    "gpw_cli/pruning/permute": ("pruning_edges", "permute"),
    "gpw_cli/pruning": ("pruning_edges", "pruning", "budget", "permute", "plugins"),
    "gpw_cli/quantization/shared": ("shared_values",),
    "gpw_cli/quantization/straight": ("quantized_training",),
    "gpw_cli/quantization/trained": ("quantized_training",),
    "gpw_cli/quantization": ("quantization_edges", "quantization", "integer", "multiplier"),
    "gpw_cli/graph/branches": ("graph_edges", "budget"),
    "gpw_cli/graph/codebook": ("graph_edges", "eie_compression", "shared_values"),
    "gpw_cli/graph/compact": ("compact", "dead"),
    "gpw_cli/graph/constants": ("graph_edges", "dead", "compact"),
    "gpw_cli/graph/dead": ("graph_edges", "dead", "operators"),
    "gpw_cli/graph/equalise": ("graph_edges", "quantization"),
    "gpw_cli/graph/float_io": ("float_io",),
    "gpw_cli/graph/integer": ("graph_edges", "integer", "multiplier", "quantization_edges"),
    "gpw_cli/graph/module": ("shared_values", "export"),
    "gpw_cli/graph/onnx": ("export",),
    "gpw_cli/graph/parameters": ("graph_edges", "quantized_training"),
    "gpw_cli/graph/views": ("graph_edges", "views", "operators"),
    "gpw_cli/graph": ("graph_edges", "graph", "views", "operators", "quantization_edges"),
    "gpw_cli/store": ("store_edges", "store", "store_damage", "store_crashes"),
    "gpw_cli/targets/eie": ("eie_edges", "eie_compression", "eie_cycles", "eie_network"),
    "gpw_cli/targets/engine": ("engine_edges", "engine", "engine_published"),
    "gpw_cli/targets/vta/isa": ("vta_isa", "vta_checker", "vta_timing", "vta_snapshots"),
    "gpw_cli/targets/vta/check": ("vta_checker", "vta_random", "vta_lowering"),
    "gpw_cli/targets/vta/functional": ("vta_functional", "vta_random", "vta_lowering"),
    "gpw_cli/targets/vta/timing": ("vta_timing", "vta_rtl", "vta_random"),
    "gpw_cli/targets/vta/lowering/verify": ("vta_verify", "vta_passes", "vta_snapshots"),
    "gpw_cli/targets/vta/lowering": (
        "vta_lowering_edges",
        "vta_snapshots",
        "vta_lowering_parts",
        "vta_passes",
        "vta_tile_search",
        "vta_lowering",
    ),
    "gpw_cli/targets/vta": ("vta_export", "vta_timing", "vta_lowering"),
    "gpw_cli/targets": ("engine_target", "targets", "plugins"),
}
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
SKIPPED = (ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr)
NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}
NAMES |= {"floor": "ceil", "ceil": "floor", "any": "all", "all": "any", "argmin": "argmax"}
NAMES |= {"zeros": "ones", "ones": "zeros", "zeros_like": "ones_like", "sorted": "list"}


@dataclass(frozen=True)
class Mutant:
    """``place``: the mutated node is the ``place``-th that ``_changes`` finds in ``file``."""

    file: str
    place: int
    line: int
    what: str

    @property
    def name(self) -> str:
        """A unique name."""
        return f"{self.file}:{self.line} #{self.place} {self.what}"


def mutants_of(file: str) -> list[Mutant]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return [
        Mutant(file, place, getattr(node, "lineno", 0), what)
        for place, (node, what) in enumerate(_changes(tree))
    ]


def mutated(mutant: Mutant) -> str:
    """The source of the file with the mutation."""
    tree = ast.parse((ROOT / mutant.file).read_text(encoding="utf-8"))
    list(_changes(tree, mutant.place))
    return ast.unparse(ast.fix_missing_locations(tree))


Change = Callable[[], None]


def _changes(tree: ast.Module, apply: int = -1) -> Iterator[tuple[ast.AST, str]]:
    """(node, description) of each possible mutation; number ``apply`` is applied."""
    places = [(node, what, change) for node in _code(tree) for what, change in _of(node)]
    for place, (node, what, change) in enumerate(places):
        if place == apply:
            change()
        yield node, what


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes except annotations, messages, decorators and imports."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "msg"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, SKIPPED):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            yield child
            yield from _code(child)


def _of(node: ast.AST) -> Iterator[tuple[str, Change]]:
    """The possible mutations of ``node`` itself."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield _put(node, "ops", [SWAPS[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign) and type(node.op) in SWAPS:
        yield _put(node, "op", SWAPS[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield _put(node, "op", ast.UAdd())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _put(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        yield _put(
            node, "value", not node.value if isinstance(node.value, bool) else node.value + 1
        )
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield _put(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield _put(node, "value", ast.Constant(None))
    elif isinstance(node, ast.Name) and node.id in NAMES:
        yield _put(node, "id", NAMES[node.id])
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield _put(node, "attr", NAMES[node.attr])


def _put(node: ast.AST, field: str, value: object) -> tuple[str, Change]:
    return f"{type(node).__name__}.{field}", lambda: setattr(node, field, value)


def tests_of(file: str) -> list[str]:
    """Names of test files, the cheapest first."""
    prefix = next(prefix for prefix in TESTS if file.startswith(prefix))
    return [f"tests/test_{name}.py" for name in TESTS[prefix]]


def run_tests(copy: Path, tests: list[str], log: Path) -> str:
    """The outcome of the tests in ``copy``: survived, killed or timeout."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
            resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
            signal.alarm(SECONDS)
            os.chdir(copy)
            sys.path[:0] = [str(copy), str(copy / "tests")]
            os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
            sys.dont_write_bytecode = True
            with log.open("w") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            code = int(pytest.main([*tests, *OPTIONS]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        slow = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM)
        return "timeout" if slow else "killed"
    return "survived" if os.WEXITSTATUS(status) == 0 else "killed"


SUMMARY = ("FAILED tests/", "ERROR tests/")  # a captured log line starts with ERROR too


def failing(log: Path) -> list[str]:
    """The tests, or the files of tests, that pytest's summary in ``log`` names."""
    lines = log.read_text(errors="replace").splitlines()
    found = [line.split(" ", 1)[1] for line in lines if line.startswith(SUMMARY)]
    return [name.split(" - ")[0] for name in found]


@cache
def passes(test: str, copy: Path, log: Path) -> bool:
    """Whether ``test`` passes in ``copy``, which has no mutant at the moment."""
    return run_tests(copy, [test], log) == "survived"


def require_passing(tests: list[str], copy: Path, log: Path) -> None:
    """A test that fails anyway kills every mutant: end the run."""
    for test in tests:
        if not passes(test, copy, log):
            sys.exit(f"{test} fails without a mutant\n{log.read_text()[-2000:]}")


def difference(mutant: Mutant) -> str:
    """The changed lines, as ``ast.unparse`` writes them."""
    before = ast.unparse(ast.parse((ROOT / mutant.file).read_text(encoding="utf-8")))
    lines = difflib.unified_diff(
        before.splitlines(), mutated(mutant).splitlines(), n=0, lineterm=""
    )
    return "\n".join(line for line in list(lines)[2:] if not line.startswith("@@"))


def sources(only: list[str]) -> list[str]:
    """Paths of the modules to mutate, from ROOT: those in ``only``, or all."""
    found = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "gpw_cli").rglob("*.py"))
    return [f for f in found if f.startswith(tuple(only or TESTS)) and f.startswith(tuple(TESTS))]


def drawn(every: list[Mutant], count: int, seed: int, strata: list[str]) -> list[Mutant]:
    """``count`` random mutants; with ``strata`` (folders) as many of each as its share of lines."""
    lines = [sum(len((ROOT / f).read_text().splitlines()) for f in sources([s])) for s in strata]
    found, left = [], count
    for number, folder in enumerate(strata):
        own = [mutant for mutant in every if mutant.file.startswith(folder)]
        share = round(left * lines[number] / sum(lines[number:]))
        found += random.Random(f"{seed} {folder}").sample(own, min(share, len(own)))
        left -= share
    return found or random.Random(seed).sample(every, min(count, len(every)))


def digest(file: str) -> str:
    return hashlib.sha256((ROOT / file).read_bytes()).hexdigest()[:16]


def tried(out: Path) -> dict[str, dict[str, object]]:
    """Rows of ``out`` by name of the mutant, for files that have not changed."""
    if not out.exists():
        return {}
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    rows = [row for row in rows if (ROOT / row["file"]).exists()]
    return {row["name"]: row for row in rows if row["digest"] == digest(row["file"])}


def attempt(mutants: list[Mutant], out: Path) -> None:
    """Run the tests of mutants that are not in ``out``, with a line for each."""
    done = tried(out)
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        copy, log = Path(name) / "gpw", Path(name) / "log"
        left_out = shutil.ignore_patterns(".git", ".gpw", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, copy, ignore=left_out)
        if (ROOT.parent / "shared").exists():  # what some tests compare with
            (Path(name) / "shared").symlink_to((ROOT.parent / "shared").resolve())
        left = [mutant for mutant in mutants if mutant.name not in done]
        for mutant in left:
            (copy / mutant.file).write_text(mutated(mutant), encoding="utf-8")
            result = run_tests(copy, tests_of(mutant.file), log)
            shutil.copy(ROOT / mutant.file, copy / mutant.file)
            if result == "killed":
                require_passing(failing(log) or tests_of(mutant.file), copy, log)
            row = {"name": mutant.name, "file": mutant.file, "digest": digest(mutant.file)}
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row | {"result": result}) + "\n")
            print(f"{result:8} {mutant.name}", flush=True)


def report(mutants: list[Mutant], out: Path) -> None:
    """Print the counts, and the survivors with their changes."""
    done = tried(out)
    known = {mutant.name: mutant for mutant in mutants}
    results = Counter(str(row["result"]) for row in done.values())
    total = sum(results.values())
    print(", ".join(f"{count} {what}" for what, count in results.most_common()), f"of {total}")
    for name, row in done.items():
        if row["result"] == "survived" and name in known:
            print(f"\n{name}\n{difference(known[name])}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutation testing of a random sample.")
    parser.add_argument("--count", type=int, default=60, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="files or folders, from the checkout")
    parser.add_argument("--by-lines", action="store_true", help="of each of --only by its lines")
    parser.add_argument("--out", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--report", action="store_true", help="read --out and run nothing")
    arguments = parser.parse_args()
    every = [mutant for file in sources(arguments.only) for mutant in mutants_of(file)]
    if not arguments.report:
        strata = arguments.only if arguments.by_lines else []
        chosen = drawn(every, arguments.count, arguments.seed, strata)
        attempt(sorted(chosen, key=lambda mutant: tests_of(mutant.file)), arguments.out)
    report(every, arguments.out)


if __name__ == "__main__":
    main()
