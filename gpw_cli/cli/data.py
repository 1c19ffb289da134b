"""``gpw data``: list, fetch and check data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpw_cli.cli.arguments import Json
from gpw_cli.cli.completion import complete_data
from gpw_cli.cli.console import emit, listener
from gpw_cli.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="List, fetch and check data sets.")

Name = Annotated[
    str,
    typer.Argument(
        help="cifar10, digits, imagefolder, or a plug-in's", autocompletion=complete_data
    ),
]
Folder = Annotated[
    Path | None, typer.Option("--root", help="A folder that already holds the images.")
]
Root = Annotated[Path, typer.Option("--store", help="runtime.root: where gpw keeps its data.")]


@app.command("ls")
def ls(store: Root = Path(".gpw"), json: Json = False) -> None:
    """List the data sets, their sizes and sources, and which of them the store has."""
    from gpw_cli.data.catalog import KIND, describe
    from gpw_cli.data.cifar10 import stored_folder
    from gpw_cli.plugins import plugins

    own = {info.name for info in describe()}  # built-in names win
    added = [{"name": p.name, "origin": p.origin} for p in plugins(KIND) if p.name not in own]
    cifar10 = stored_folder(store / "data")
    there = {"cifar10": str(cifar10)} if cifar10.is_dir() else {}
    if json:
        emit([{**vars(info), "stored": there.get(info.name)} for info in describe()] + added)
        return
    for info in describe():
        origin = f"in {there[info.name]}" if info.name in there else info.origin
        print(f"{info.name:12} {info.description}; {origin}")
    for plugin in added:
        print(f"{plugin['name']:12} a plug-in of {plugin['origin']}")


@app.command("fetch")
def fetch(name: Name, store: Root = Path(".gpw"), json: Json = False) -> None:
    """Fetch and verify a data set, unless it is there already."""
    from gpw_cli.data.registry import fetch as fetch_data

    _print(vars(fetch_data(_checked(name), store / "data", listener().progress)), json)


@app.command("check")
def check(name: Name, root: Folder = None, store: Root = Path(".gpw"), json: Json = False) -> None:
    """Verify the images and labels of a data set."""
    from gpw_cli.data.registry import check as check_data

    _print(vars(check_data(_checked(name), root, store / "data")), json)


def _checked(name: str) -> str:
    if "=" in name:
        raise UsageError(
            f"{name}: expected the name of a data set; for runtime.root=FOLDER use --store FOLDER"
        )
    return name


def _print(result: dict[str, object], json: bool) -> None:
    if json:
        emit(result)
    else:
        for key, value in result.items():
            print(f"{key:12} {value}")
