"""Send Ctrl-C and SIGTERM at random moments of a command, including its start.

    python scripts/interrupts.py --count 50

Exits with 1 for a traceback, an exit code other than 130 and 143, or results that differ from those
of an undisturbed command.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests")]

from interrupting import tried  # noqa: E402

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ends, same = tried(
            Path(folder), given.count, given.seed, lambda text: print(text, flush=True)
        )
    for end, times in ends.most_common():
        print(f"{times:4} {end}")
    print(f"results {'equal' if same else 'differ from'} those of an undisturbed command")
    sys.exit(not same or any(end.startswith("fault") for end in ends))
