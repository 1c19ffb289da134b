"""The networks in the files of this package. Imports no torch.

    declared()["digits_cnn"]       # Declared("gpw_cli.models.digits_cnn", channels=1, size=16)

A file of this package that assigns ``NETWORKS`` brings networks: name -> (channels, height and
width in pixels) of their images. ``NETWORKS`` is a literal, because it is read without running the
file, which imports torch. ``build_network(wanted)`` in the file makes each of them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gpw_cli.errors import UsageError


@dataclass(frozen=True)
class Declared:
    """A declared network: its module, and the channels and size in pixels of its images."""

    module: str
    channels: int
    size: int


@dataclass(frozen=True)
class NetworkSpec:
    """What ``build_network`` makes: network ``name`` for ``classes`` and images of ``in_channels``.

    ``shortcut`` ("A" or "B") and ``widths`` (channels of the three stages; empty: as published)
    are of CIFAR ResNets only.
    """

    name: str
    classes: int
    in_channels: int
    shortcut: str = "A"
    widths: Sequence[int] = ()


@cache
def declared() -> Mapping[str, Declared]:
    """All networks of this package by name, in the order of the files."""
    return {
        name: Declared(f"{__package__}.{file.stem}", channels, size)
        for file in sorted(Path(__file__).parent.glob("*.py"))
        for name, (channels, size) in networks_in(file.read_text(encoding="utf-8")).items()
    }


def networks_in(source: str) -> Mapping[str, tuple[int, int]]:
    """The literal ``NETWORKS`` of a file; empty if it has none."""
    if re.search(r"^NETWORKS\b", source, re.MULTILINE) is None:
        return {}
    for node in ast.parse(source).body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="NETWORKS")], value=value)
                | ast.AnnAssign(target=ast.Name(id="NETWORKS"), value=ast.expr() as value)
            ):
                found: Mapping[str, tuple[int, int]] = ast.literal_eval(value)
                return found
    return {}


def require_colour(wanted: NetworkSpec) -> None:
    """Raise UsageError for a network that takes images of 3 channels only."""
    if wanted.in_channels != 3:
        fits = (name for name, own in declared().items() if own.channels == wanted.in_channels)
        other = next((f" or model={name}" for name in fits), "")
        raise UsageError(
            f"model.name={wanted.name} takes images of 3 channels, not {wanted.in_channels}: "
            f"use data.channels=3{other}"
        )
