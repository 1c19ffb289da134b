"""Add checksums, as newer sweeps have, to the files of committed sweeps.

    python scripts/seal_results.py results

Nothing else in the files changes, and their reports stay up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gpw_cli.report.fresh import is_fresh, mark_fresh
from gpw_cli.store.files import write_text
from gpw_cli.store.seal import opened, sealed


def seal(folder: Path) -> int:
    """Seal the files of one sweep; returns the number of rewritten files."""
    fresh, count = is_fresh(folder), 0
    for file in [folder / "sweep.json", *sorted((folder / "points").glob("*.json"))]:
        before = file.read_bytes()
        found = opened(before)
        if found.sealed:
            continue
        text = sealed(found.content)
        if not text.encode().startswith(before.rstrip(b"\n}")):
            raise SystemExit(f"{file} is not as gpw writes it; run its sweep again")
        write_text(file, text)
        count += 1
    if fresh and count:
        mark_fresh(folder)
    return count


if __name__ == "__main__":
    for sweep in sorted(Path(sys.argv[1]).glob("*/sweep.json")):
        print(f"{sweep.parent}: {seal(sweep.parent)} files sealed")
