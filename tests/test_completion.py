"""Completion in a real bash, and the scripts of the other shells."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Gpw

from gpw_cli.cli.completion import SCRIPTS, Shell, complete_override

ASK = r"""
source completion.bash
ask() {  # what the shell sets for a line that ends at the cursor
    COMP_LINE="$1" COMP_POINT=${#1}
    _gpw_completion gpw
    echo "$1|${COMPREPLY[*]}"
}
"""
ASKED = {
    "gpw swe": ["sweep"],
    "gpw run pru": ["pruning="],
    "gpw run pruning.scheme=": ["balanced", "block", "channel", "dense", "fine", "gpw", "vector"],
    "gpw sweep seed=1 +experiment=front": ["frontier", "frontier_ablation"],
    "gpw sweep scheme=gpw,b": ["gpw,balanced", "gpw,block"],
    "gpw run train": ["train="],
    'gpw run "pruning.br': ["pruning.branches="],
    "gpw pick fir": ["first"],
    "gpw sweep --until fu": ["fuse"],
    "gpw data fetch ci": ["cifar10"],
    "gpw config --describe pruning.sco": ["pruning.scope"],
}


def test_a_real_bash_completes_commands_keys_and_values(tmp_path: Path) -> None:
    (tmp_path / "gpw").write_text(f'#!/bin/sh\nexec {sys.executable} -m gpw_cli "$@"\n')
    (tmp_path / "gpw").chmod(0o755)
    (tmp_path / "completion.bash").write_text(SCRIPTS[Shell.bash])
    (tmp_path / "results/first").mkdir(parents=True)
    (tmp_path / "results/first/sweep.json").write_text("{}")
    lines = "".join(f"ask '{line}'\n" for line in ASKED)
    done = subprocess.run(
        ["bash", "--norc", "-c", f"PATH=$PWD:$PATH\n{ASK}{lines}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.split("|") for line in done.stdout.splitlines())
    assert {line: sorted(words.split()) for line, words in found.items()} == ASKED


@pytest.mark.parametrize("start", ["", "t", "train", "pretrain.", "quantizer", "finetune.train"])
def test_a_key_is_offered_once(start: str) -> None:
    """Bash leaves out the space after "=" only where one word is offered."""
    found = list(complete_override(start))
    assert found
    assert len(found) == len(set(found))


@pytest.mark.parametrize("shell", list(Shell))
def test_the_scripts_are_printed_and_well_formed(gpw: Gpw, shell: Shell, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(gpw("completion", shell.value).out)
    assert "COMP_CWORD" in script.read_text()
    if shutil.which(shell.value) is None:
        pytest.skip(f"no {shell.value} here")
    subprocess.run([shell.value, "-n", script], check=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("crit", ["criterion="]),
        ("criterion=t", ["criterion=taylor"]),
        ("quantizer.obs", ["quantizer.observer="]),
        ("finetune.quantized=", ["finetune.quantized=true", "finetune.quantized=false"]),
        ("train=dig", ["train=digits", "train=digits_restart"]),
        ("pretrain.train=pa", ["pretrain.train=paper"]),
        ("target=vta_p", ["target=vta_pynq"]),
        ("model=resnet5", ["model=resnet50", "model=resnet56"]),
        ("target.timing.fetch", ["target.timing.fetch_overhead="]),
        ("sparsity=", []),
        ("nothing", []),
    ],
)
def test_keys_and_values(given: str, expected: list[str]) -> None:
    assert list(complete_override(given)) == expected
