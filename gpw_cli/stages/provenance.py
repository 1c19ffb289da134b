"""Versions and machine that made an artifact: recorded in every manifest, not in keys."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("gpw", "torch", "torchvision", "numpy")


@cache
def git_commit() -> str | None:
    """The short commit of this checkout, with ``-dirty`` for local changes; None in a wheel."""
    here = Path(__file__).resolve().parent
    if not (here.parent.parent / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def provenance(device: str, threads: int) -> dict[str, Any]:
    """Versions, commit, machine type, device and thread count."""
    return {
        "versions": _versions(),
        "commit": git_commit(),
        "machine": platform.machine(),
        "device": device,
        "threads": threads,
    }
