"""Reading an artifact: its manifest is checked against itself and the request, its files too.

reading = read(folder, stage="prune", key="3f2a...", parent="9c01...")
reading.damage              # None, or what is wrong in a few words
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpw_cli.errors import StoreError
from gpw_cli.store.seal import Damaged, Opened, opened

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Reading:
    """What lies at an artifact's place.

    there: anything at all; manifest: its content, sealed: with a checksum of its own (only where
    ``damage`` is None).
    """

    there: bool
    damage: str | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    sealed: bool = False

    @property
    def complete(self) -> bool:
        """Whether the artifact is there and undamaged."""
        return self.there and self.damage is None


def read(folder: Path, stage: str, key: str, parent: str | None) -> Reading:
    """Every checksum is verified. Raises StoreError where reading is not allowed."""
    file = folder / MANIFEST
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return Reading(there=True, damage="its manifest is no file")
        found = opened(file.read_bytes())
        damage = _mistaken(found, stage, key, parent) or _damaged_file(folder, found.content)
    except (FileNotFoundError, NotADirectoryError):
        there = folder.exists() or folder.is_symlink()
        return Reading(there, "it has no manifest" if there else None)
    except Damaged as error:
        return Reading(there=True, damage=f"unreadable manifest ({error})")
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be read ({error.strerror}): change that, or name another store with "
            "runtime.root=FOLDER"
        ) from error
    if damage is not None:
        return Reading(there=True, damage=damage)
    return Reading(there=True, manifest=found.content, sealed=found.sealed)


def _mistaken(found: Opened, stage: str, key: str, parent: str | None) -> str | None:
    """What the manifest says that was not asked for."""
    content = found.content
    for name, asked in (("stage", stage), ("key", key), ("parent", parent)):
        if content.get(name) != asked:
            return f"its manifest is of another artifact ({name} {content.get(name)!r})"
    if not isinstance(content.get("metrics"), dict) or not isinstance(content.get("files"), dict):
        return "unreadable manifest (no metrics or no files)"
    return None


def _damaged_file(folder: Path, manifest: Mapping[str, Any]) -> str | None:
    for name, expected in manifest["files"].items():
        file = folder / name
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                return f"{name} is no file"
            if checksum(file) != expected:
                return f"{name} does not match its checksum"
        except (FileNotFoundError, NotADirectoryError):
            return f"{name} is missing"
        except ValueError:  # a NUL in the name
            return "unreadable manifest (file names)"
    return None


def checksum(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
