"""``gpw cache``: list and clean the artifact store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpw_cli.cli.arguments import Json
from gpw_cli.cli.console import emit
from gpw_cli.errors import UsageError

if TYPE_CHECKING:
    from gpw_cli.store.gc import Collected, Entry

app = typer.Typer(no_args_is_help=True, help="List and clean the artifact store.")
Root = Annotated[Path, typer.Option("--store", help="runtime.root: the folder of the store.")]


@app.command("ls")
def ls(store: Root = Path(".gpw"), json: Json = False) -> None:
    """List all artifacts: state, size, age, inputs and accuracy."""
    from gpw_cli.store.gc import entries

    root = _root(store)
    found = entries(root)
    if json:
        emit([_plain(entry) for entry in found])
        return
    for entry in found:
        print(_line(entry))
    print(f"{_count(found)}, {_megabytes(found)}" if found else f"no artifacts in {root}")


@app.command("gc")
def gc(
    store: Root = Path(".gpw"),
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Keep what the sweeps in this folder refer to; may be repeated."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Keep nothing of any sweep.")] = False,
    min_age: Annotated[
        float, typer.Option(min=0, help="Keep artifacts that changed within this many hours.")
    ] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    json: Json = False,
) -> None:
    """Remove artifacts that no sweep in results/ refers to, and unfinished and damaged ones.

    Artifacts that a running gpw process uses are always kept.
    """
    from gpw_cli.store.gc import HOUR, collect
    from gpw_cli.store.records import referenced

    if min_age != min_age:
        raise UsageError("--min-age nan: expected hours from 0 on")
    root = _root(store)
    keep = set() if everything else referenced(results or [Path("results")])
    found = collect(root, keep, dry_run=dry_run, min_age=min_age * HOUR)
    if json:
        paths = [str(entry.path) for entry in found.removed]
        spared = {"young": len(found.young), "in_use": len(found.used)}
        size = sum(entry.bytes for entry in found.removed)
        emit({"removed": paths, "bytes": size, "dry_run": dry_run, "spared": spared})
        return
    for entry in found.removed:
        print(_line(entry))
    verb = "would free" if dry_run else "freed"
    freed = f"{verb} {_megabytes(found.removed)} in {_count(found.removed)}"
    print(freed if found.removed else f"nothing to remove in {root}")
    _print_spared(found, min_age)


def _print_spared(found: Collected, min_age: float) -> None:
    if found.young:
        count, size = len(found.young), _megabytes(found.young)
        print(f"spared {count} younger than {min_age:g} h, {size} (--min-age 0 spares none)")
    if found.used:
        numbers = ", ".join(map(str, sorted(found.processes)))
        by = f" by process {numbers}" if numbers else ""
        print(f"spared {len(found.used)} in use{by}, {_megabytes(found.used)}")


def _root(store: Path) -> Path:
    root = store / "store"
    for path in (store, root):
        if path.exists() and not path.is_dir():
            raise UsageError(f"--store {store}: {path} is a file; name the folder of runtime.root")
    return root


def _plain(entry: Entry) -> dict[str, object]:
    return {**vars(entry), "path": str(entry.path), "seconds": round(entry.seconds)}


def _line(entry: Entry) -> str:
    text = f"{entry.stage:9} {entry.key} {entry.state:10} {entry.bytes / 1e6:9.2f} MB"
    text += f"  {_age(entry.seconds):>6}  {entry.made_with:32}  {entry.summary}"
    return text.rstrip()


def _count(found: list[Entry]) -> str:
    return "1 artifact" if len(found) == 1 else f"{len(found):,} artifacts"


def _megabytes(found: list[Entry]) -> str:
    return f"{sum(entry.bytes for entry in found) / 1e6:,.2f} MB"


def _age(seconds: float) -> str:
    """``40 s``, ``12 min``, ``5 h``, ``3 d``."""
    for unit, length, following in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 86400)):
        if seconds < following:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds // 86400:.0f} d"
