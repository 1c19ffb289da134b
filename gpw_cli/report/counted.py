"""Which gpw counted the cycles of a sweep: two compilers count the same network differently.

print(apart("paper_gpw", before, "frontier", now))      # "" where one commit counted all
"""

from __future__ import annotations

from gpw_cli.report.load import Sweep
from gpw_cli.report.words import listed

SHOWN = 3  # commits of one sweep
SAME = ["pretrain_key", "target", "quantizer"]  # one dense network on one target


def apart(first: str, one: Sweep, second: str, other: Sweep) -> str:
    """One sentence if the cycles of two sweeps, by their names, are of different commits.

    It says what the dense network takes in each, which shows how much of a difference is the
    compiler's. Empty where the commits are the same, or not known.
    """
    commits = [_commits(sweep) for sweep in (one, other)]
    if not all(commits) or set(commits[0]) == set(commits[1]):
        return ""
    text = f"cycles of {first} are of {_listed(commits[0])}, of {second} of {_listed(commits[1])}"
    dense = [sweep.dense().done.dropna(subset=["cycles"]) for sweep in (one, other)]
    both = dense[0].merge(dense[1], on=SAME, suffixes=("", "_other"))
    if both.empty:
        return f"{text}: part of a difference may be the compiler's"
    row = both.iloc[0]
    counts = f"the same dense network takes {row['cycles']:,.0f} and {row['cycles_other']:,.0f}"
    if row["cycles"] == row["cycles_other"]:
        return f"{text}; {counts}"
    return f"{text}: {counts}, so part of a difference is the compiler's, not pruning's"


def _commits(sweep: Sweep) -> list[str]:
    """The commits that counted cycles, in order."""
    return list(dict.fromkeys(sweep.done.dropna(subset=["cycles"])["simulate_commit"].dropna()))


def _listed(commits: list[str]) -> str:
    more = [f"{len(commits) - SHOWN} more"] if len(commits) > SHOWN else []
    return ("commits " if len(commits) > 1 else "commit ") + listed([*commits[:SHOWN], *more])
