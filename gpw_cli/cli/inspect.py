"""``gpw ls`` and ``gpw config``: list the choices, and show a configuration."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpw_cli.cli.arguments import ConfigDir, Json, Overrides
from gpw_cli.cli.completion import complete_key
from gpw_cli.cli.console import emit, say
from gpw_cli.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from gpw_cli.config.schema import Config

LISTED = ("model", "data", "pruning", "train", "quantizer", "target", "experiment")


def ls(overrides: Overrides = None, json: Json = False, config_dir: ConfigDir = None) -> None:
    """List networks, data sets, the options of all groups, and what compiles for a target.

    target=NAME and target.KEY=VALUE choose the target; the default is VTA.
    """
    from gpw_cli.config.paths import options
    from gpw_cli.models.families import FAMILIES, compiling
    from gpw_cli.models.inputs import model_names
    from gpw_cli.models.weight_files import bundled_names
    from gpw_cli.pruning.criteria import Criterion

    target, refused = _refused(overrides or [], config_dir)
    found: dict[str, Any] = {group: options(group) for group in LISTED}
    found["model"] = model_names()
    found["criterion"] = list(Criterion)
    found["bundled weights"] = bundled_names()
    found["does not compile"] = sorted(name for name, why in compiling(refused).items() if why)
    added = list(_plugins(found))
    if json:
        emit({**found, "plug-ins": added, "target": target})
        return
    width = shutil.get_terminal_size((100, 24)).columns
    for group, names in found.items():
        print(wrapped(group, names, width))  # also in a pipe: 100 columns, or $COLUMNS
    for new in added:
        print(f"{new['kind']:16} {new['name']}  (plug-in of {new['package']}{new['note']})")
    given = " ".join(overrides or [f"target={target}"])
    print(f"does not compile with {given}, because of:")
    for family, why in refused.items():
        if why:
            print(wrapped(f"  {family:15}", why.split(", "), width, ", "))
    unchecked = ", ".join(sorted(set(FAMILIES) - set(refused)))
    print(f"not checked: {unchecked or 'none'}")
    print(f"any other network: `gpw cycles model=NAME {given}` says so in seconds")


def _refused(overrides: list[str], config_dir: Path | None) -> tuple[str, dict[str, str]]:
    """The target, and by family why it does not compile for it, or ""; checked if not known."""
    for override in overrides:
        name = override.partition("=")[0].lstrip("+")
        if name != "target" and not name.startswith("target."):
            raise UsageError(
                f"{override}: gpw ls takes target=NAME and target.KEY=VALUE, for which it says "
                "what compiles; for one network use `gpw cycles`"
            )
    from gpw_cli.config.compose import compose
    from gpw_cli.models.families import FAMILIES, load_checked
    from gpw_cli.stages.families import is_tabled, refusals

    target = compose(overrides, config_dir).target.name
    if not overrides or is_tabled(overrides, config_dir):
        return target, {family: row.refused for family, row in load_checked().items()}
    say(f"compiling a network of each of {len(FAMILIES)} families for {target}, a minute or two")
    found = {}
    for family, why in refusals(overrides, config_dir):
        say(f"  {family:16} {why or 'compiles'}")
        found[family] = why
    return target, found


def wrapped(group: str, names: Sequence[str], width: int, between: str = "  ") -> str:
    """The names beside their group, in lines of at most ``width`` characters."""
    head, text = f"{group:16} ", between.join(names)
    if not names:
        return head
    lines = textwrap.TextWrapper(max(width, 40), head, " " * len(head))
    lines.break_long_words = lines.break_on_hyphens = False
    return lines.fill(text)


def _plugins(built_in: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """Plug-ins, with a remark on those that are never used."""
    from gpw_cli.config.paths import PLUGGED
    from gpw_cli.plugins import GROUPS, plugins
    from gpw_cli.targets.registry import FAMILIES

    groups = {kind: group for group, kind in PLUGGED.items()} | {"criterion": "criterion"}
    for kind in GROUPS:
        rows = plugins(kind)
        names = [plugin.name for plugin in rows]
        for plugin in rows:
            note = "; several packages bring it" if names.count(plugin.name) > 1 else ""
            if plugin.name in built_in[groups[kind]] or plugin.name in FAMILIES:
                note = "; not used: the name is built in"
            yield {"kind": kind, "name": plugin.name, "package": plugin.origin, "note": note}


def config(
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    describe: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Explain a group or a key: quantizer, pruning.scope, scope.",
            autocompletion=complete_key,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show the resolved configuration as YAML with the allowed values."""
    from gpw_cli.config.compose import compose, to_plain

    composed = compose(overrides or [], config_dir)
    if describe is not None:
        print("\n".join(_described(composed, describe)))
    elif json:
        emit(to_plain(composed))
    else:
        print("\n".join(_commented(composed)))


def _described(composed: Config, wanted: str) -> Iterator[str]:
    """The settings under the key ``wanted``, a paragraph each."""
    from gpw_cli.config.compose import SHORT
    from gpw_cli.config.describe import settings

    every = list(settings(composed))
    keys = _full(wanted)
    under = tuple(f"{key}." for key in keys)
    found = [s for s in every if s.key in keys or s.key.startswith(under)]
    found = found or [s for s in every if s.key.endswith(f".{wanted}")]  # its last part suffices
    if not found:
        known = [s.key for s in every]
        raise UsageError(f"--describe {wanted}: no such key; {_alike(wanted, known, list(SHORT))}")
    shown = None
    for setting in found:
        if setting.group != shown:
            shown = setting.group
            yield setting.group.replace("``", "") + "\n"  # reST is for the documentation
        yield f"{setting.key} = {_yaml(setting.default)}    [{setting.allowed}]"
        if setting.text:
            yield f"    {setting.text}"


def _alike(wanted: str, known: Sequence[str], short: Sequence[str]) -> str:
    """What ``--describe`` may have meant: keys of a similar name, else the groups."""
    from difflib import get_close_matches

    close = get_close_matches(wanted, [*short, *known], n=3)
    if not close:  # compared by the last part, such as budgets
        tails = {key.rpartition(".")[2]: key for key in known}
        close = [tails[name] for name in get_close_matches(wanted.rpartition(".")[2], tails, n=3)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"the groups are {', '.join(dict.fromkeys(key.split('.')[0] for key in known))}"


def _full(name: str) -> tuple[str, ...]:
    """The keys that a short form stands for; any other key is its own."""
    from gpw_cli.config.compose import SHORT

    if name == "scheme":  # as an override it is the group, with all its settings
        return ("pruning.scheme",)
    if name == "experiment":  # what an experiment fills in
        return ("sweep",)
    return tuple(full.rpartition("@")[2] for full in SHORT.get(name, (name,)))


def _commented(composed: Config) -> Iterator[str]:
    """YAML with the allowed values and a comment after each value."""
    from gpw_cli.config.describe import settings

    before: list[str] = []
    for setting in settings(composed):
        *groups, name = setting.key.split(".")
        common = next((n for n, (a, b) in enumerate(zip(groups, before, strict=False)) if a != b),
                      min(len(groups), len(before)))  # fmt: skip
        for depth in range(common, len(groups)):
            yield f"{'  ' * depth}{groups[depth]}:"
        before = groups
        text = f"{'  ' * len(groups)}{name}: {_yaml(setting.default)}"
        note = "; ".join(part for part in (setting.allowed, setting.text) if part)
        yield f"{text:34} # {note}"


def _yaml(value: object) -> str:
    """A value as YAML on one line."""
    from omegaconf import OmegaConf

    from gpw_cli.config.compose import to_plain

    plain = to_plain(value)
    if isinstance(plain, list | dict):
        import json as js

        return js.dumps(plain)
    return OmegaConf.to_yaml(OmegaConf.create({"x": plain})).removeprefix("x:").strip()
