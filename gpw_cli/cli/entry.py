"""The console script: signals first, the command line second.

Ctrl-C ends with 130 and SIGTERM with 143, at any moment and without a traceback. Until the command
line is imported there is nothing to tidy up, and the process ends on the spot; from then on the
signal is a KeyboardInterrupt, which ends helper processes and trackers. A second signal, or ten
seconds, end the process whatever it does. The store is safe in every case.

This module imports nothing of ours, so that as little as possible comes before its handlers.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
MESSAGE = "gpw: interrupted; the same command goes on from the last finished epoch"
PATIENCE = 10.0  # seconds to end helper processes and trackers


class Signals:
    """What Ctrl-C and SIGTERM do in this process."""

    def __init__(self) -> None:
        self.code: int | None = None  # of the first signal
        self.tidy = False  # whether there is anything to tidy up

    def install(self) -> None:
        """From now on; a signal that the parent has ignored stays so."""
        for number in CODES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.handle)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """One signal."""
        first, self.code = self.code is None, CODES[signal.Signals(number)]
        if not first or not self.tidy:
            self.leave()
        # what the interrupt leaves half done in other threads and destructors is not worth a word
        sys.unraisablehook = lambda unraisable: None
        threading.excepthook = lambda arguments: None
        timer = threading.Timer(PATIENCE, self.leave)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    def leave(self) -> NoReturn:
        """End here and now."""
        code = self.code or 0
        try:
            sys.stdout.flush()
            os.write(2, f"{MESSAGE}\n".encode())
        except (OSError, ValueError, RuntimeError, AttributeError):
            pass
        os._exit(code)

    def ignore(self) -> None:
        """The work is done: what comes now is too late to matter."""
        for number in CODES:
            signal.signal(number, signal.SIG_IGN)


def main() -> None:
    """The console script."""
    signals = Signals()
    signals.install()
    from gpw_cli.cli.main import run

    try:
        signals.tidy = True
        code = run()
    except BaseException:
        if signals.code is None:
            raise
        signals.leave()
    if signals.code is not None:  # swallowed on its way up
        signals.leave()
    signals.ignore()
    sys.exit(code)
