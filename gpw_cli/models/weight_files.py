"""Files of weights: those that gpw ships, and whether a file can be one at all. Imports no torch.

bundled_weights("resnet20", "A", "cifar10")     # the shipped file, each with a manifest
require_regular(Path("net.pt"))         # CheckpointError for a folder, a FIFO, /dev/zero, 1 TB
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from gpw_cli.errors import CheckpointError

FOLDER = Path(__file__).resolve().parent / "weights"
SHOWN = ("recipe", "epochs", "seed", "precision", "trained_commit")
MAX_BYTES = 16 * 1024**3  # the largest known network, vit_h_14, has 2.5 GB


def bundled_weights(model: str, shortcut: str, data: str) -> Path | None:
    """The shipped safetensors file for this network on this data set, or None."""
    file = FOLDER / f"{model}-{shortcut}-{data}.safetensors"
    return file if file.is_file() else None


def bundled_names() -> list[str]:
    """``model-shortcut-data`` of all shipped weights."""
    return sorted(file.stem for file in FOLDER.glob("*.safetensors"))


def bundled_manifest(weights: Path) -> dict[str, Any]:
    """The manifest of shipped weights (``SHOWN`` and ``history``); {} for any other file."""
    manifest = weights.with_suffix(".json")
    if weights.parent != FOLDER or not manifest.is_file():
        return {}
    content: dict[str, Any] = json.loads(manifest.read_text())
    return content


def require_regular(path: Path, name: str = "") -> None:
    """Raise CheckpointError unless ``path`` is a regular file of a plausible size.

    name: of the file in the message; default: the path.
    """
    what = name or str(path)
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{what}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(found.st_mode):
        raise CheckpointError(f"{what}: Is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{what}: is no regular file (a device, a pipe or a socket)")
    if found.st_size > MAX_BYTES:
        raise CheckpointError(
            f"{what}: {found.st_size:,} bytes, more than the {MAX_BYTES:,} of any network here"
        )
