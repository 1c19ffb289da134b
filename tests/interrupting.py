"""Ctrl-C and SIGTERM at any moment of a command, and what may come of it.

``scripts/interrupts.py`` tries fifty moments, a test a few.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gpw_cli.stages.network import HISTORY
from gpw_cli.store.seal import opened

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}
COMMAND = (
    *("finetune", "data=digits", "scheme=gpw", "sparsity=0.5", "runtime.threads=1"),
    *("pretrain.train.epochs=3", "finetune.train.epochs=3"),
)
DONE = "done before"
WAIT = 120  # seconds for an interrupted command to end
# Python's own start, before any module of ours can set a handler
OWN = ("init_import_site", "Fatal Python error", "<frozen site>", "<frozen runpy>")


def started(folder: Path) -> subprocess.Popen[str]:
    """The command, in a process that sees Ctrl-C however this one was started."""
    return subprocess.Popen(
        [sys.executable, "-m", "gpw_cli", *COMMAND],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )


def finish(folder: Path) -> dict[str, object]:
    """Run it to its end; what it leaves."""
    with started(folder) as process:
        _, err = process.communicate()
    assert process.returncode == 0, err
    return left(folder)


def left(folder: Path) -> dict[str, object]:
    """Of each stage its key, metrics, and checksums of all files but the one that holds times."""
    found: dict[str, object] = {}
    for file in sorted(folder.glob(".gpw/store/*/*/manifest.json")):
        manifest = opened(file.read_bytes()).content
        manifest["files"].pop(HISTORY, None)
        found[manifest["stage"]] = (manifest["key"], manifest["metrics"], manifest["files"])
    return found


def interrupted(folder: Path, number: signal.Signals, moment: float) -> str:
    """How the command ended: an exit code, ``python`` for its own start, or a fault."""
    with started(folder) as process:
        time.sleep(moment)
        process.send_signal(number)
        _, err = process.communicate(timeout=WAIT)
    code = process.returncode
    if code == -number and not err:
        return "before any handler"
    if any(text in err for text in OWN) and "gpw_cli" not in err.split("Traceback")[-1]:
        return "in Python's own start"
    if "Traceback" in err or "Exception ignored" in err:
        return f"fault: a traceback at {moment:.2f} s: {err[-600:]}"
    if code == 0:
        return DONE
    if code != SIGNALS[number]:
        return f"fault: exit code {code} at {moment:.2f} s: {err[-600:]}"
    return str(code)


def tried(
    folder: Path, count: int, seed: int, say: Callable[[str], None] = lambda text: None
) -> tuple[Counter[str], bool]:
    """(how often each end was seen, whether the results are those of a command left in peace)."""
    chosen, ends = random.Random(seed), Counter[str]()
    whole, broken = folder / "whole", folder / "broken"
    whole.mkdir()
    broken.mkdir()
    began = time.monotonic()
    expected = finish(whole)
    longest, same = time.monotonic() - began, True
    for index in range(count):
        number = list(SIGNALS)[index % 2]
        # a third of them while it starts up
        moment = chosen.uniform(0, longest / (6 if index % 3 == 0 else 1))
        end = interrupted(broken, number, moment)
        ends[end] += 1
        if end == DONE:  # from the beginning again
            same = same and left(broken) == expected
            shutil.rmtree(broken / ".gpw")
        say(f"{number.name} at {moment:.2f} s: {end}")
    return ends, same and finish(broken) == expected
