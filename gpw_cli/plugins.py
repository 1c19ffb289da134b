"""What other packages add by Python entry points; the built-in tables come first, always.

    [project.entry-points."gpw.criteria"]           # in the pyproject.toml of the other package
    mine = "gpw_mine.criteria:mine"

    find("criterion", "mine")            # Plugin, or None; reads metadata, imports nothing of it
    find("criterion", "mine").load(Scoring)

Metadata is read only for a name that is not built in, or when all names are listed. Imports no
torch. docs/plugins.md says what each kind is.
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
_loaded: dict[str, Plugin] = {}  # top-level package -> the plug-in that brought it


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
        """The package that it comes from, with its version: part of the keys that it touches."""
        return f"{self.distribution} {self.version}"

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' of {self.origin}"

    def load(self) -> Any:
        """The object that the entry point names. UsageError for whatever goes wrong there."""
        from importlib.metadata import EntryPoint  # 30 ms, which --help need not pay

        _loaded[self.value.partition(":")[0].partition(".")[0]] = self
        try:
            return EntryPoint(self.name, self.value, GROUPS[self.kind]).load()
        except GpwError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {_first_line(error)}"
            raise UsageError(
                f"{self} ({self.value}) cannot be loaded: {reason}; `pip uninstall "
                f"{self.distribution}` or ask its author"
            ) from error

    def load_as(self, kind: type[T]) -> T:
        """``load``, and UsageError for anything but a ``kind``."""
        found = self.load()
        if not isinstance(found, kind):
            wanted = f"{kind.__module__}.{kind.__qualname__}"
            raise UsageError(f"{self} ({self.value}) is a {type(found).__name__}, not a {wanted}")
        return found


def find(kind: str, name: str) -> Plugin | None:
    """The plug-in ``name``; None where no package has one.

    The caller has looked into its own table. Raises UsageError where several packages have one.
    """
    found = [plugin for plugin in plugins(kind) if plugin.name == name]
    if len(found) > 1:
        origins = " and ".join(plugin.origin for plugin in found)
        raise UsageError(f"{kind} '{name}' comes from {origins}: uninstall all but one of them")
    return found[0] if found else None


def plugins(kind: str) -> tuple[Plugin, ...]:
    """All of a kind, by name."""
    return _read(kind, tuple(sys.path))


@cache
def _read(kind: str, path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """``path``: sys.path, which metadata is read from."""
    from importlib.metadata import entry_points

    found = {
        Plugin(kind, entry.name, entry.value, entry.dist.name, entry.dist.version)
        for entry in entry_points(group=GROUPS[kind])
        if entry.dist is not None
    }
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.distribution)))


def blamed(error: BaseException) -> str | None:
    """One line for an error that a plug-in's code has raised; None for one of our own.

    The plug-in is that of the innermost frame that lies in any plug-in's package.
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
    """Looks for a plug-in where an enumeration has no member of a name."""

    def __getitem__(cls, name: str) -> Any:
        try:
            return super().__getitem__(name)
        except KeyError:
            return cls(name)


class Open(StrEnum, metaclass=_OpenMeta):
    """A table of choices that plug-ins add to: ``Criterion("mine")``, ``Criterion["mine"]``.

    Iterating gives the built-in ones, ``every`` all; UsageError for a name that is neither. A
    member pickles by its name, so a worker process finds the same plug-in. A line of the class is
    its name and its definition.
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
        """The members of the class, then those of plug-ins."""
        built_in = list(cls)
        names = [p.name for p in plugins(cls.kind()) if p.name not in built_in]
        return [*built_in, *(cls(name) for name in names if names.count(name) == 1)]

    def definition(self, kind: type[T]) -> T:
        """What the member's line says; of a plug-in what it brings. UsageError for a broken one."""
        given: T = self._given if self._plugin is None else self._plugin.load_as(kind)
        return given

    @property
    def plugin(self) -> Plugin | None:
        """Where it comes from; None for a built-in member."""
        return self._plugin

    @property
    def origin(self) -> str:
        """The package of a plug-in; empty for a built-in member."""
        return "" if self._plugin is None else self._plugin.origin


E = TypeVar("E", bound=Open)


@cache
def _added(cls: type[E], plugin: Plugin) -> E:
    """One object for each, so that members compare with ``is``."""
    member = cls._member(plugin.name, None, plugin)
    member._name_ = plugin.name
    return member
