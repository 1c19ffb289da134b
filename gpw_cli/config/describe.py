"""Descriptions of all settings: type, allowed values, comment, and docstring of the group.

    for setting in settings(Config): print(setting.key, setting.allowed, setting.text)

The texts come from the schema, where the settings are declared: the comment of a field is on its
line or just above it.
"""

from __future__ import annotations

import inspect
import io
import re
import textwrap
import tokenize
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from gpw_cli.plugins import Open

PLURAL = {"whole number": "whole numbers", "text": "texts", "number": "numbers", "dict": "mappings"}
_FIELD = re.compile(r"^\s{4}(\w+):")


@dataclass(frozen=True)
class Setting:
    """A setting. ``group``: the docstring of its class; ``choices``: its values, if few."""

    key: str
    allowed: str
    default: Any
    text: str
    group: str
    choices: list[str]


def settings(value: Any, prefix: str = "") -> Iterator[Setting]:
    """All settings of a configuration (an instance of the schema), in order."""
    kind = type(value)
    hints, texts = get_type_hints(kind), comments(kind)
    group = inspect.cleandoc(kind.__doc__ or "")
    for field in fields(value):
        inner, key = getattr(value, field.name), prefix + field.name
        if is_dataclass(inner):
            yield from settings(inner, f"{key}.")
        else:
            hint, text = hints[field.name], texts.get(field.name, "")
            yield Setting(key, allowed(hint), inner, text, group, choices(hint))


def allowed(hint: Any) -> str:
    """``layer, block, global`` for an enumeration, ``true, false``, or the name of the type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return ", ".join("null" if part is type(None) else allowed(part) for part in inner)
    if origin is list:
        one = allowed(inner[0])
        return f"list of {PLURAL.get(one, one)}"
    if origin is dict:
        return "mapping"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(map(_member, _members(hint)))
    names = {
        bool: "true, false",
        int: "whole number",
        float: "number",
        str: "text",
        dict: "mapping",
    }
    return names.get(hint, getattr(hint, "__name__", "text"))


def choices(hint: Any) -> list[str]:
    """The members of an enumeration, or true and false; [] for other types."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return [str(member.value) for member in _members(hint)]
    return ["true", "false"] if hint is bool else []


def _members(kind: type[Enum]) -> list[Enum]:
    return list(kind.every() if issubclass(kind, Open) else kind)


def _member(member: Enum) -> str:
    origin = member.origin if isinstance(member, Open) else ""
    return f"{member.value} ({origin})" if origin else str(member.value)


def comments(kind: type) -> dict[str, str]:
    """The comments of the fields of a dataclass, including those of base classes.

    A field that a subclass declares again without a comment keeps the one of the base.
    """
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if is_dataclass(base):
            own = _own_comments(base)
            found |= {name: text for name, text in own.items() if text or name not in found}
    return found


def _own_comments(kind: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(kind))
    notes = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    lines = source.splitlines()
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if (match := _FIELD.match(line)) is None:
            continue
        above = number - 1
        while above in notes and lines[above - 1].lstrip().startswith("#"):
            above -= 1
        parts = [notes[n] for n in range(above + 1, number)]
        found[match[1]] = " ".join([*parts, *([notes[number]] if number in notes else [])])
    return found
