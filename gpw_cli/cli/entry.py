"""The console script: installs signal handlers, then imports the command line.

Ctrl-C exits with 130 and SIGTERM with 143, at any moment and without a traceback. Before the
command line is imported, the process exits immediately. Afterwards the signal raises
KeyboardInterrupt, which ends helper processes and trackers; while a module is being imported it
waits for that, because an exception in PyTorch's initialisation aborts the process. After a second
signal, or ten seconds, the process exits in any case. The store stays consistent in all cases.

This module imports nothing from gpw, so that the handlers are installed as early as possible.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
MESSAGE = "gpw: interrupted; the same command goes on from the last finished epoch"
PATIENCE = 10.0  # seconds to end helper processes and trackers
WAIT = 0.05  # seconds after which a signal that came during an import is sent again


class Signals:
    """What Ctrl-C and SIGTERM do in this process."""

    def __init__(self) -> None:
        self.code: int | None = None  # exit code of the first signal
        self.tidy = False  # whether there are helper processes or trackers to end
        self.resent = False  # whether the next signal is one that had to wait for an import

    def install(self) -> None:
        """Install the handlers, except for signals that the parent ignores."""
        for number in CODES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.handle)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        again, self.resent = self.resent, False
        if not again:
            first, self.code = self.code is None, CODES[signal.Signals(number)]
            if not first or not self.tidy:
                self.leave()
            # no messages from other threads and destructors that are interrupted
            sys.unraisablehook = lambda unraisable: None
            threading.excepthook = lambda arguments: None
            _after(PATIENCE, self.leave)
        if not _importing(frame):
            raise KeyboardInterrupt
        _after(WAIT, lambda: self._resend(number))

    def _resend(self, number: int) -> None:
        self.resent = True
        os.kill(os.getpid(), number)

    def leave(self) -> NoReturn:
        """Exit immediately."""
        code = self.code or 0
        try:
            sys.stdout.flush()
            os.write(2, f"{MESSAGE}\n".encode())
        except (OSError, ValueError, RuntimeError, AttributeError):
            pass
        os._exit(code)

    def ignore(self) -> None:
        """Ignore signals from now on; the work is done."""
        for number in CODES:
            signal.signal(number, signal.SIG_IGN)


def _after(seconds: float, action: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


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
    if signals.code is not None:  # the KeyboardInterrupt was swallowed
        signals.leave()
    signals.ignore()
    sys.exit(code)
