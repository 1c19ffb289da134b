"""Where ``conf/`` lies: inside the package in an installed wheel, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def conf_dir() -> Path:
    """Absolute path of the configuration tree."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def options(group: str) -> list[str]:
    """Names that ``group=NAME`` accepts, sorted."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
