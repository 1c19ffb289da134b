"""``--checkpoint``: overrides for weights that the user names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpw_cli.config.compose import compose, to_plain
from gpw_cli.config.schema import DataConfig
from gpw_cli.errors import CheckpointError
from gpw_cli.models.checkpoint import detect_model, load_state
from gpw_cli.models.onnx_file import is_onnx
from gpw_cli.models.weight_files import require_regular
from gpw_cli.stages.ignored import refuse_ignored
from gpw_cli.stages.network import NETWORK, WEIGHTS

KEY = re.compile(r"[0-9a-f]{1,64}")  # or a prefix of one


def checkpoint_overrides(
    checkpoint: str,
    given: Sequence[str],
    config_dir: Path | None = None,
    command: str = "--checkpoint",
) -> list[str]:
    """Overrides that run the weights as a dense network; zero tiles stay zero.

    An ONNX file is a network with its weights. ``command``: what the errors call it.

    The network is the one that ``given`` names, else that of the artifact's description, else it is
    detected from the weights; the data set is the one that ``given`` names, else that of the
    artifact's manifest. Raises CheckpointError for an invalid checkpoint, and UsageError for
    overrides without effect.
    """
    refuse_ignored(given, command)
    if is_onnx(checkpoint) and not _names(given, "model", "model.name"):
        return [f"model={checkpoint}", "scheme=dense"]
    root = compose([*given, "scheme=dense"], config_dir).runtime.root
    file = _file(checkpoint, root, command)
    quoted = str(file.resolve()).replace("\\", "\\\\").replace("'", "\\'")
    found = [f"pretrain.source='{quoted}'"]
    if not _names(given, "pruning", "scheme", "pruning.scheme"):
        found.append("scheme=dense")
    if not _names(given, "model", "model.name"):
        found += _network(file)
    return [*_data(file, given), *found]


def _data(file: Path, given: Sequence[str]) -> list[str]:
    """The data set that an artifact was made with, unless ``given`` names one."""
    manifest = file.with_name("manifest.json")
    if file.name != WEIGHTS or not manifest.is_file() or _names(given, "data", "data.name"):
        return []
    try:
        data = dict(json.loads(manifest.read_text())["config"]["data"])
        found = [f"data={data['name']}"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{manifest} names no data set ({error})") from None
    usual = to_plain(DataConfig())
    for key in ("root", "size", "channels"):
        if data.get(key) != usual[key] and not _names(given, f"data.{key}"):
            quoted = str(data[key]).replace("\\", "\\\\").replace("'", "\\'")
            found.append(f"data.{key}='{quoted}'" if key == "root" else f"data.{key}={data[key]}")
    return found


def _names(given: Sequence[str], *keys: str) -> bool:
    return any(override.partition("=")[0] in keys for override in given)


def _file(checkpoint: str, root: str, command: str) -> Path:
    path = Path(checkpoint)
    with suppress(OSError, ValueError):  # a name that is too long or contains NUL
        if (path / WEIGHTS).is_file():
            return path / WEIGHTS
        if path.exists() and not path.is_dir():
            require_regular(path, f"{command} {checkpoint}")
            return path
    known = Path(root).glob(f"store/*/{checkpoint}*") if KEY.fullmatch(checkpoint) else ()
    complete = [folder for folder in known if "." not in folder.name]
    found = [folder for folder in complete if (folder / WEIGHTS).is_file()]
    if len(found) == 1:
        return found[0] / WEIGHTS
    if found:
        keys = ", ".join(sorted(folder.name for folder in found)[:4])
        raise CheckpointError(f"{command} {checkpoint} begins several keys: {keys}; write more")
    if complete:
        raise CheckpointError(
            f"{command} {checkpoint}: is an artifact of {complete[0].parent.name}, which holds no "
            "weights of its own; give the key of its finetune or pretrain"
        )
    raise CheckpointError(
        f"{command} {checkpoint}: no such file, folder of an artifact, or key "
        "(`gpw cache ls` lists the keys)"
    )


def _network(file: Path) -> list[str]:
    described = file.with_name(NETWORK)
    if file.name == WEIGHTS and described.is_file():
        try:
            return _as_described(json.loads(described.read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            shown = f"{type(error).__name__}: {error}"
            raise CheckpointError(f"{described} describes no network ({shown})") from None
    name, shortcut = detect_model(load_state(file))
    return [f"model={name}", f"model.shortcut={shortcut}"]


def _as_described(content: dict[str, Any]) -> list[str]:
    """Overrides for a described network; CheckpointError if it is the user's own code."""
    if "own" in content:
        args = ",".join(f"{key}:{value}" for key, value in (content.get("args") or {}).items())
        more = f" model.args={{{args}}}" if args else ""
        raise CheckpointError(
            f"weights of a network of your own; a checkpoint never names code to run: say "
            f"model={content['name']}{more} as well"
        )
    widths = ",".join(map(str, content.get("widths", ())))
    own = [f"model={content['name']}", f"model.shortcut={content['shortcut']}"]
    return [*own, f"model.widths=[{widths}]"] if widths else own
