"""Whether a sweep's report is up to date, and which folders hold sweeps. Imports nothing heavy."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gpw_cli.errors import UsageError
from gpw_cli.store.files import write_text

MARK = "report.sha256"
REPORT_VERSION = 16  # raise when the report draws something else from the same results


def _digest(folder: Path) -> str:
    digest = hashlib.sha256(f"report {REPORT_VERSION}\n".encode())
    for file in [folder / "sweep.json", *sorted((folder / "points").glob("*.json"))]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def is_fresh(folder: Path) -> bool:
    """Whether the report in ``folder`` was drawn from the results that lie there now."""
    try:
        recorded = (folder / MARK).read_text().strip()
    except OSError:
        return False
    present = (folder / "results.csv").is_file() and (folder / "report.html").is_file()
    return present and recorded == _digest(folder)


def mark_fresh(folder: Path) -> None:
    """Remember what the report was drawn from."""
    write_text(folder / MARK, _digest(folder) + "\n")


def sweep_folders(results: Path, name: str | None) -> list[Path]:
    """The named sweep (a folder, or a name below ``results``), or all. Raises UsageError if there
    is none.
    """
    found = sorted(file.parent for file in results.glob("*/sweep.json"))
    if name is None:
        if not found:
            raise UsageError(f"no sweep below {results}: run `gpw sweep sparsity=0.5:0.9` first")
        return found
    for candidate in (Path(name), results / name):
        if (candidate / "sweep.json").is_file():
            return [candidate]
    names = ", ".join(folder.name for folder in found) or "none"
    raise UsageError(f"no sweep '{name}' below {results}; there are: {names}")
