"""``gpw cache``: look at and clean the artifact store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpw_cli.cli.arguments import Json
from gpw_cli.cli.console import emit

app = typer.Typer(no_args_is_help=True, help="Look at and clean the artifact store.")
Root = Annotated[Path, typer.Option("--store", help="runtime.root: the folder of the store.")]


@app.command("ls")
def ls(store: Root = Path(".gpw"), json: Json = False) -> None:
    """Every artifact with its state, size and accuracy."""
    from gpw_cli.store.gc import entries

    found = entries(store / "store")
    if json:
        emit([{**vars(entry), "path": str(entry.path)} for entry in found])
        return
    for entry in found:
        print(f"{entry.stage:9} {entry.key} {entry.state:8} {entry.bytes:>12,}  {entry.summary}")
    print(f"{len(found)} artifacts, {sum(entry.bytes for entry in found):,} bytes")


@app.command("gc")
def gc(
    store: Root = Path(".gpw"),
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Keep what the sweeps in this folder refer to; may be repeated."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Keep nothing of any sweep.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    json: Json = False,
) -> None:
    """Remove artifacts that no sweep in results/ refers to, unfinished work and damaged ones."""
    from gpw_cli.store.gc import collect, referenced

    keep = set() if everything else referenced(results or [Path("results")])
    removed = collect(store / "store", keep, dry_run=dry_run)
    size = sum(entry.bytes for entry in removed)
    if json:
        emit({"removed": [str(e.path) for e in removed], "bytes": size, "dry_run": dry_run})
        return
    for entry in removed:
        print(f"{entry.stage:9} {entry.key} {entry.state:8} {entry.bytes:>12,}")
    print(f"{'would free' if dry_run else 'freed'} {size:,} bytes in {len(removed)} artifacts")
