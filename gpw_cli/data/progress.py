"""The interface through which data loading reports progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called during long operations; ``total`` is None if unknown."""

    def __call__(self, what: str, done: int, total: int | None, /) -> None:
        """``done`` of ``total`` units are done; ``what`` names the operation and its unit."""


def ignore(what: str, done: int, total: int | None, /) -> None:
    """A Progress that does nothing."""
