"""``gpw completion SHELL``: scripts that complete commands, keys and values.

    eval "$(gpw completion bash)"         # in ~/.bashrc;  zsh: in ~/.zshrc, after compinit
    gpw completion fish | source          # in ~/.config/fish/config.fish

The scripts call ``gpw``: Typer completes commands and options, this module ``key=value``. Bash
splits words at "=" and ":", so its script joins them again, and a key is completed without a space
after its "=".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gpw_cli.stages.names import STAGES

_BASH = r"""
_gpw_completion() {
    local line="${COMP_LINE:0:$COMP_POINT}" word typed kept
    local -a words
    read -r -a words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    typed="${words[${#words[@]}-1]#[\"\']}"  # an open quote is Readline's
    words[${#words[@]}-1]="$typed"
    kept="${typed%"${typed##*[=:]}"}"  # what Readline leaves alone
    COMPREPLY=()
    while IFS= read -r word; do
        word="${word#plain,}"
        [[ $word == "$typed"* ]] && COMPREPLY+=("${word#"$kept"}")
    done < <(COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) _GPW_COMPLETE=complete_bash \
        "$1" 2> /dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace
    return 0
}
complete -o default -F _gpw_completion gpw
"""

_ZSH = r"""
#compdef gpw
_gpw_completion() {
    local -a replies open closed
    replies=("${(@f)$(COMP_WORDS="${words[1,$CURRENT]}" COMP_CWORD=$((CURRENT - 1)) \
        _GPW_COMPLETE=complete_bash ${words[1]} 2> /dev/null)}")
    replies=("${(@)replies#plain,}")
    open=("${(@M)replies:#*=}")
    closed=("${(@)replies:#*=}")
    closed=("${(@)closed:#}")
    (( $#open )) && compadd -S '' -- "${open[@]}"
    (( $#closed )) && compadd -- "${closed[@]}"
    (( $#open + $#closed )) || _files
}
compdef _gpw_completion gpw
"""

_FISH = r"""
function __gpw_completion
    set -l words (commandline -opc) (commandline -ct)
    COMP_WORDS="$words" COMP_CWORD=(math (count $words) - 1) _GPW_COMPLETE=complete_bash \
        $words[1] 2>/dev/null | string replace -r '^plain,' ''
end
complete -c gpw -a '(__gpw_completion)'
"""


class Shell(StrEnum):
    """The shells with a script."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


SCRIPTS = {Shell.bash: _BASH, Shell.zsh: _ZSH, Shell.fish: _FISH}


def prepare() -> None:
    """Let Typer answer completion requests without offering its own scripts."""
    if "_GPW_COMPLETE" in os.environ:
        from typer.completion import get_completion_inspect_parameters

        get_completion_inspect_parameters()  # registers the shells of Typer


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell to print the script for.")],
) -> None:
    """Print the completion script for the startup file of your shell."""
    print(SCRIPTS[shell].strip())


def complete_override(incomplete: str) -> Iterable[str]:
    """Keys that start with ``incomplete``, or values after ``KEY=``; the last one of a list."""
    key, sign, value = incomplete.partition("=")
    if not sign:
        return list(dict.fromkeys(f"{name}=" for name in _keys(key) if name.startswith(key)))
    before, comma, last = value.rpartition(",")
    given = set(before.split(",")) if comma else set[str]()
    return [
        f"{key}={before}{comma}{found}"
        for found in _values(key)
        if found.startswith(last) and found not in given
    ]


def complete_key(incomplete: str) -> Iterable[str]:
    """Groups, short forms and keys that ``--describe`` explains."""
    found = [name.rstrip("=").lstrip("+") for name in complete_override(incomplete)]
    return [name for name in found if "@" not in name]


def complete_sweep(incomplete: str) -> Iterable[str]:
    """The sweeps below results/ whose names start with ``incomplete``."""
    found = sorted(file.parent.name for file in Path("results").glob("*/sweep.json"))
    return [name for name in found if name.startswith(incomplete)]


def complete_data(incomplete: str) -> Iterable[str]:
    """Data sets by name."""
    from gpw_cli.data.catalog import describe

    return [info.name for info in describe() if info.name.startswith(incomplete)]


def complete_stage(incomplete: str) -> Iterable[str]:
    """Stages by name."""
    return [name for name in STAGES if name.startswith(incomplete)]


def _keys(start: str) -> Iterator[str]:
    """Short forms and groups, then all keys of a configuration."""
    from gpw_cli.config.compose import SHORT
    from gpw_cli.config.composed import GROUPS, keys

    yield from (*(key for key in SHORT if key != "experiment"), *GROUPS[:-1], "+experiment")
    if "." not in start:
        yield "seed"
        return
    if start.startswith("target."):
        yield from keys(())  # those of the family, which Hydra composes
    else:
        yield from (setting.key for setting in _settings())


def _values(key: str) -> list[str]:
    """Options of a group, members of an enumeration, or true and false; [] for other types."""
    from gpw_cli.config.compose import SHORT
    from gpw_cli.config.composed import GROUPS
    from gpw_cli.config.paths import MODEL_KINDS, offered
    from gpw_cli.models.inputs import model_names

    full = SHORT.get(key, (key,))[0].lstrip("+")
    group = full.split("@")[0]
    if group in GROUPS:
        names = [*offered(group), *(model_names() if group == "model" else ())]
        return sorted(set(names) - MODEL_KINDS)
    if full in ("model.name", "data.name"):
        from gpw_cli.data.catalog import describe

        return model_names() if full == "model.name" else [info.name for info in describe()]
    return next((setting.choices for setting in _settings() if setting.key == full), [])


def _settings() -> Iterator[Any]:
    from gpw_cli.config.describe import settings
    from gpw_cli.config.schema import Config

    return settings(Config())
