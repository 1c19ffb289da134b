"""``gpw ls`` and ``gpw config``: what there is, and what a command line resolves to."""

from __future__ import annotations

import typer

from gpw_cli.cli.arguments import ConfigDir, Json, Overrides
from gpw_cli.cli.console import emit

LISTED = ("model", "data", "pruning", "train", "quantizer", "target", "experiment")


def register(app: typer.Typer) -> None:
    """Add both commands to ``app``."""
    app.command("ls")(ls)
    app.command("config", epilog="example: gpw config model=resnet56 sparsity=0.7")(config)


def ls(json: Json = False) -> None:
    """Networks, data sets, and the options of every group."""
    from gpw_cli.config.paths import options
    from gpw_cli.models.bundled import bundled_names
    from gpw_cli.models.inputs import model_names

    found = {group: options(group) for group in LISTED}
    found["model"] = model_names()
    found["bundled weights"] = bundled_names()
    if json:
        emit(found)
        return
    for group, names in found.items():
        print(f"{group:16} {'  '.join(names)}")


def config(overrides: Overrides = None, config_dir: ConfigDir = None, json: Json = False) -> None:
    """The resolved configuration as YAML."""
    from gpw_cli.config.compose import compose, to_plain

    resolved = to_plain(compose(overrides or [], config_dir))
    if json:
        emit(resolved)
        return
    from omegaconf import OmegaConf

    print(OmegaConf.to_yaml(OmegaConf.create(resolved)), end="")
