"""``gpw export``: write a network for use without gpw."""

from __future__ import annotations

import json as js
import re
from pathlib import Path
from typing import Annotated

import typer

from gpw_cli.cli.arguments import ConfigDir, Overrides
from gpw_cli.cli.console import listener, say
from gpw_cli.errors import UsageError

OF_A_POINT = ("model", "data", "quantizer", "bits", "target")
EPILOG = "example: gpw export 21e7cd27 --to net.onnx --int8"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("export", epilog=EPILOG)(export)


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="KEY_OR_POINT",
            help="An artifact's key or folder, a file of weights, or a run's file in "
            "results/SWEEP/points.",
        ),
    ],
    to: Annotated[
        Path,
        typer.Option(
            help="net.pt2 (PyTorch), net.safetensors (weights), net.onnx, or a folder for the "
            "target's program."
        ),
    ],
    overrides: Overrides = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="The quantized network (ONNX with QuantizeLinear).")
    ] = False,
    config_dir: ConfigDir = None,
) -> None:
    """Write the pruned network to a file, with masks applied and dead channels removed."""
    from gpw_cli.config.compose import compose
    from gpw_cli.stages.deliver import check_format, deliver
    from gpw_cli.stages.pipeline import run
    from gpw_cli.stages.services import open_services
    from gpw_cli.stages.source import checkpoint_overrides

    check_format(to, int8)
    given = [*settings_of(source), *(overrides or [])]
    config = compose([*checkpoint_overrides(_key(source), given, config_dir), *given], config_dir)
    services = open_services(config, listener())
    until = "pretrain" if to.suffix and not int8 else "fuse"
    artifacts = run(config, services, until)
    deliver(to, config, services, artifacts, int8=int8)
    say(f"wrote {to}")


def settings_of(source: str) -> list[str]:
    """Of a point's file the network, data set, quantizer and target that its sweep was given."""
    file = Path(source)
    manifest = file.parent.parent / "sweep.json"
    if file.suffix != ".json" or not manifest.is_file():
        return []
    try:
        sweep = js.loads(manifest.read_text())
        axes = next(p["axes"] for p in sweep["points"] if p["id"] == file.stem)
        given = [*sweep["overrides"], *(f"{key}={value}" for key, value in axes.items())]
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise UsageError(f"{manifest} says nothing of {source}; name it with a key") from None
    return [text for text in given if re.split(r"[.=]", text)[0] in OF_A_POINT]


def _key(source: str) -> str:
    """The key of the trained network if ``source`` is the file of a point, else ``source``."""
    file = Path(source)
    if file.suffix != ".json" or not file.is_file():
        return source
    try:
        stages = js.loads(file.read_text())["stages"]
        return str(stages.get("finetune", stages["pretrain"])["key"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{source} is no finished run of a sweep; name one with a key") from None
