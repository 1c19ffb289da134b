"""Plug-ins of other packages by Python entry points; built-in names have precedence.

    [project.entry-points."gpw.criteria"]           # in the pyproject.toml of the other package
    mine = "gpw_mine.criteria:mine"

    find("criterion", "mine")            # Plugin, or None; reads metadata, imports nothing
    find("criterion", "mine").load(Scoring)

Metadata is read only for names that are not built in, and when all names are listed. Imports no
torch. The kinds of plug-ins are described in docs/plugins.md.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import EnumMeta, StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

from gpw_cli.errors import GpwError, UsageError

GROUPS: Mapping[str, str] = {
    "criterion": "gpw.criteria",
    "scheme": "gpw.schemes",
    "network": "gpw.networks",
    "data set": "gpw.datasets",
    "target family": "gpw.targets",
}
T = TypeVar("T")
# top-level package -> its plug-in, or what else to call code of the user's own
_loaded: dict[str, Plugin | str] = {}


@dataclass(frozen=True)
class Plugin:
    """One entry point. ``kind``: a key of ``GROUPS``; ``value``: ``module:attribute``."""

    kind: str
    name: str
    value: str
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """The package with its version; part of the keys that depend on the plug-in."""
        return f"{self.distribution} {self.version}"

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' of {self.origin}"

    def load(self) -> Any:
        """The object of the entry point. Any error becomes a UsageError."""
        from importlib.metadata import EntryPoint  # takes 30 ms, which --help does not need

        _loaded[self.value.partition(":")[0].partition(".")[0]] = self
        try:
            return EntryPoint(self.name, self.value, GROUPS[self.kind]).load()
        except GpwError:
            raise
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {_first_line(error)}"
            raise UsageError(
                f"{self} ({self.value}) cannot be loaded: {reason}; `pip uninstall "
                f"{self.distribution}` or ask its author"
            ) from error

    def load_as(self, kind: type[T]) -> T:
        """``load``; UsageError unless the object is a ``kind``."""
        found = self.load()
        if not isinstance(found, kind):
            wanted = f"{kind.__module__}.{kind.__qualname__}"
            raise UsageError(f"{self} ({self.value}) is a {type(found).__name__}, not a {wanted}")
        return found


def find(kind: str, name: str) -> Plugin | None:
    """The plug-in ``name``; None if no package has one.

    The caller looks up built-in names first. Raises UsageError if several packages have one.
    """
    found = [plugin for plugin in plugins(kind) if plugin.name == name]
    if len(found) > 1:
        origins = " and ".join(plugin.origin for plugin in found)
        raise UsageError(f"{kind} '{name}' comes from {origins}: uninstall all but one of them")
    return found[0] if found else None


def plugins(kind: str) -> tuple[Plugin, ...]:
    """All plug-ins of a kind, by name."""
    return _read(kind, tuple(sys.path))


@cache
def _read(kind: str, path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """``path``: sys.path, from which metadata is read."""
    from importlib.metadata import entry_points

    found = {
        Plugin(kind, entry.name, entry.value, entry.dist.name, entry.dist.version)
        for entry in entry_points(group=GROUPS[kind])
        if entry.dist is not None
    }
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.distribution)))


def remember(package: str, name: str) -> None:
    """Let ``blamed`` call errors in the code of the top-level ``package`` by ``name``."""
    _loaded.setdefault(package, name)


def blamed(error: BaseException) -> str | None:
    """One line for an error raised in the code of a plug-in or of the user; None for other errors.

    The code is that of the innermost frame in a package of such code.
    """
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if (plugin := _loaded.get(package)) is not None and package != __package__:
            where = f"{Path(frame.f_code.co_filename).name}, line {line}"
            return f"{plugin}: {type(error).__name__}: {_first_line(error)} ({where})"
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


class _OpenMeta(EnumMeta):
    """Looks up a plug-in for names that are not members of the enumeration."""

    def __getitem__(cls, name: str) -> Any:
        try:
            return super().__getitem__(name)
        except KeyError:
            return cls(name)


class Open(StrEnum, metaclass=_OpenMeta):
    """An enumeration that plug-ins extend: ``Criterion("mine")``, ``Criterion["mine"]``.

    Iteration yields the built-in members, ``every`` all. Unknown names raise UsageError. Members
    pickle by name, so that a worker process finds the same plug-in. Each line of the class is a
    name and a definition.
    """

    _given: Any
    _plugin: Plugin | None

    def __new__(cls, name: str, definition: Any = None) -> Self:
        """A built-in member."""
        return cls._member(name, definition, None)

    @classmethod
    def _member(cls, name: str, definition: Any, plugin: Plugin | None) -> Self:
        member = str.__new__(cls, name)
        member._value_, member._given, member._plugin = name, definition, plugin
        return member

    @classmethod
    def kind(cls) -> str:
        """The key of ``GROUPS``."""
        return cls.__name__.lower()

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        if (plugin := find(cls.kind(), value)) is not None:
            added: Self = _added(cls, plugin)
            return added
        names = [member.value for member in cls.every()]
        close = get_close_matches(value, names, 1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise UsageError(f"no {cls.kind()} '{value}': expected one of {', '.join(names)}{hint}")

    @classmethod
    def every(cls) -> list[Self]:
        """The built-in members, then those of plug-ins."""
        built_in = list(cls)
        names = [p.name for p in plugins(cls.kind()) if p.name not in built_in]
        return [*built_in, *(cls(name) for name in names if names.count(name) == 1)]

    def definition(self, kind: type[T]) -> T:
        """The definition of the member or plug-in; UsageError for a broken plug-in."""
        given: T = self._given if self._plugin is None else self._plugin.load_as(kind)
        return given

    @property
    def plugin(self) -> Plugin | None:
        """The plug-in; None for a built-in member."""
        return self._plugin

    @property
    def origin(self) -> str:
        """The package of a plug-in; empty for a built-in member."""
        return "" if self._plugin is None else self._plugin.origin


E = TypeVar("E", bound=Open)


@cache
def _added(cls: type[E], plugin: Plugin) -> E:
    """The member of a plug-in; always the same object, so that members compare with ``is``."""
    member = cls._member(plugin.name, None, plugin)
    member._name_ = plugin.name
    return member
