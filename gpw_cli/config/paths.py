"""Where ``conf/`` lies: inside the package in an installed wheel, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def conf_dir() -> Path:
    """Absolute path of the configuration tree."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def options(group: str, config_dir: Path | None = None) -> list[str]:
    """Names that ``group=NAME`` accepts, sorted; config_dir: a folder with the user's own."""
    folders = [conf_dir(), *([config_dir] if config_dir is not None else [])]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})
