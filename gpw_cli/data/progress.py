"""How long work on pictures reports; drawing it is the CLI's."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called now and then; ``total`` is None where it is not known."""

    def __call__(self, what: str, done: int, total: int | None, /) -> None:
        """``what`` names the work and its unit, ``done`` of ``total`` units are over."""


def ignore(what: str, done: int, total: int | None, /) -> None:
    """A Progress that reports to nobody."""
