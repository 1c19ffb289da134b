"""``--checkpoint``: what the user points at, as overrides of the pipeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from gpw_cli.config.compose import compose
from gpw_cli.errors import CheckpointError
from gpw_cli.models.checkpoint import detect_model, load_state
from gpw_cli.stages.network import NETWORK, WEIGHTS


def checkpoint_overrides(
    checkpoint: str, given: Sequence[str], config_dir: Path | None = None
) -> list[str]:
    """Overrides that put the weights into the pipeline as a dense network (zero tiles stay zero).

    The network is read from an artifact's description, else recognised from the weights, unless
    ``given`` names one. Raises CheckpointError for what is no checkpoint, and UsageError.
    """
    file = _file(checkpoint, compose([*given, "scheme=dense"], config_dir).runtime.root)
    quoted = str(file.resolve()).replace("\\", "\\\\").replace("'", "\\'")
    found = [f"pretrain.source='{quoted}'"]
    if not _names(given, "pruning", "scheme", "pruning.scheme"):
        found.append("scheme=dense")
    if not _names(given, "model", "model.name"):
        found += _network(file)
    return found


def _names(given: Sequence[str], *keys: str) -> bool:
    return any(override.partition("=")[0] in keys for override in given)


def _file(checkpoint: str, root: str) -> Path:
    path = Path(checkpoint)
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    if path.is_file():
        return path
    found = [file.parent for file in Path(root).glob(f"store/*/{checkpoint}*/{WEIGHTS}")]
    found = [folder for folder in found if "." not in folder.name]  # complete artifacts only
    if len(found) == 1:
        return found[0] / WEIGHTS
    if found:
        keys = ", ".join(sorted(folder.name for folder in found)[:4])
        raise CheckpointError(f"--checkpoint {checkpoint} begins several keys: {keys}; write more")
    raise CheckpointError(
        f"--checkpoint {checkpoint}: no such file, folder of an artifact, or key "
        "(`gpw cache ls` lists the keys)"
    )


def _network(file: Path) -> list[str]:
    described = file.with_name(NETWORK)
    if file.name == WEIGHTS and described.is_file():
        content = json.loads(described.read_text())
        widths = ",".join(map(str, content.get("widths", ())))
        own = [f"model={content['name']}", f"model.shortcut={content['shortcut']}"]
        return [*own, f"model.widths=[{widths}]"] if widths else own
    name, shortcut = detect_model(load_state(file))
    return [f"model={name}", f"model.shortcut={shortcut}"]
