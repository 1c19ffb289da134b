"""The stories a to k: what a new user would try, each in an empty folder with an empty store.

    python scripts/stories.py                # all of them: writes docs/stories.md
    python scripts/stories.py e g            # these again, the others stay as they are

A fresh virtual environment outside the checkout runs them: this checkout is installed there as a
wheel, the example plug-in by story g. Data is small (digits, a folder of drawn shapes), so that all
of it takes minutes on one core. What is written is what was printed: stdout and stderr, with the
story's own folder as ".". A command that does not end as it should stops the script, and so does an
absolute path in what it prints.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / "scripts" / "stories"
PAGE = ROOT / "docs" / "stories.md"
SET_UP = (
    "python3 -m venv .venv",
    ".venv/bin/pip install -qq './gpw[onnx]' onnxruntime    # gpw: the checkout",
)
HEAD = """# Stories

Eleven things that a new user may want, each in an empty folder with an empty store.
`python scripts/stories.py` runs them and writes this page: the commands and all that they print.
Images and epochs are few: the accuracies are those of a few seconds of training.

`gpw` and `python` are those of a fresh environment beside the checkout:

```sh
{set_up}
. .venv/bin/activate
```
"""

SMALL = "data=digits pretrain.train.epochs=3 finetune.train.epochs=1"
SHOWN = "data.size=224 --classes 1000 sparsity=0.7 | sed -n '1,4p;/random weights/,$p'"
END = "2> log | tail -n"  # of a command whose progress would fill the page


@dataclass(frozen=True)
class Story:
    """``files``: of ``scripts/stories``, shown; ``commands``: as typed.

    ``refused``: how many of the commands, the last ones, end with exit code 2.
    """

    title: str
    commands: tuple[str, ...]
    files: tuple[str, ...] = ()
    refused: int = 0


STORIES = {
    "a": Story(
        "a network of one's own, with its weights",
        (
            "python -W ignore train.py",
            "gpw run model=./mynet.py:MyNet pretrain.source=mine.pth data=digits sparsity=0.5 \\\n"
            "    finetune.train.epochs=2",
        ),
        ("mynet.py", "train.py"),
    ),
    "b": Story(
        "an ONNX file",
        (
            "python -W ignore train.py     # that of story a",
            "gpw run model=net.onnx data=digits sparsity=0.5 finetune.train.epochs=3 \\\n"
            "    finetune.train.lr=0.005     # its batch norms are folded",
        ),
        ("mynet.py", "train.py"),
    ),
    "c": Story(
        "a folder of images in five classes",
        (
            "python shapes.py && ls shapes/train",
            "gpw run data=imagefolder data.root=shapes data.size=32 model=resnet8 sparsity=0.5 \\\n"
            "    train=digits pretrain.train.epochs=6 finetune.train=digits_restart \\\n"
            "    finetune.train.epochs=6",
        ),
        ("shapes.py",),
    ),
    "d": Story(
        "how fast would it be: ResNet-50 and MobileNet-V2",
        (
            f"gpw cycles model=resnet50 {SHOWN}",
            f"gpw cycles model=mobilenet_v2 {SHOWN}",
        ),
    ),
    "e": Story("from Python, in 15 lines", ("python api.py",), ("api.py",)),
    "f": Story(
        "an ONNX export, run by onnxruntime",
        (
            f"gpw sweep {SMALL} scheme=gpw sparsity=0.5 --name small {END} 6",
            "gpw export results/small/points/run.json --to net.onnx",
            "gpw export results/small/points/run.json --to net8.onnx --int8",
            "python run.py net.onnx; python run.py net8.onnx",
        ),
        ("run.py",),
    ),
    "g": Story(
        "a criterion of one's own, as a plug-in",
        (
            "pip install -qq ../gpw/tests/plugin_package && gpw ls | grep plug-in",
            "gpw config --describe pruning.criterion | tail -n 2",
            f"gpw run {SMALL} sparsity=0.5 criterion=largest",
            "pip uninstall -qq -y gpw-example",
        ),
    ),
    "h": Story(
        "what cannot be is refused, before anything is trained",
        (
            "python -c 'import torch, mynet; torch.save(mynet.MyNet().state_dict(), \"net.pth\")'",
            "gpw run data=digits sparsity=1.2",
            "gpw run data=digits sparsity=0.5:0.7",
            "gpw run data=digits criterion=tailor",
            "gpw simulate --checkpoint net.pth model=mynet:MyNet data=digits sparsity=0.8",
            "gpw run model=mobilenet_v3_small data=digits data.size=64 data.channels=3",
        ),
        files=("mynet.py",),
        refused=5,
    ),
    "i": Story(
        "two sweeps compared",
        (
            f"gpw sweep {SMALL} scheme=gpw sparsity=0.5 --name l1 {END} 6",
            f"gpw sweep {SMALL} scheme=gpw sparsity=0.5 criterion=l2 --name l2 {END} 6",
            "gpw compare l1 l2",
        ),
    ),
    "j": Story(
        "killed, and gone on with",
        (
            "gpw pretrain data=digits pretrain.train.epochs=5 2> log &\n"
            "  until grep -q 'epoch 2/5  loss' log; do sleep 0.1; done; kill -9 $!; tail -n 1 log",
            "gpw pretrain data=digits pretrain.train.epochs=5",
            "gpw pretrain data=digits pretrain.train.epochs=5",
        ),
    ),
    "k": Story(
        "the most accurate network within a latency",
        (
            f"gpw sweep {SMALL} scheme=gpw scope=cycles pruning.budget_ms=0.09,0.12 \\\n"
            f"    --name budget {END} 7",
            "gpw pick budget --max-ms 0.1",
            "gpw pick budget --max-ms 0.01",
        ),
        refused=1,
    ),
}


def environment(outer: Path) -> dict[str, str]:
    """Set up as the page says, with nothing of the environment that runs this script."""
    (outer / "gpw").symlink_to(ROOT)
    own = {name for name in os.environ if name.startswith(("PYTHON", "VIRTUAL_ENV", "GPW_"))}
    variables = {name: value for name, value in os.environ.items() if name not in own}
    for command in SET_UP:
        subprocess.run(["bash", "-c", command], cwd=outer, env=variables, check=True)
    path = f"{outer / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**variables, "PATH": path, "COLUMNS": "118", "PYTHONUNBUFFERED": "1"}


def printed(command: str, folder: Path, variables: dict[str, str], expected: int) -> str:
    """What ``command`` prints, without colours and without this machine's paths."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.replace(str(folder), ".")).rstrip()
    if done.returncode != expected:
        log = folder / "log"
        text += log.read_text() if log.is_file() else ""
        raise SystemExit(f"{command}\n{text}\nexit code {done.returncode}")
    if found := re.search(r"(?<![\w.])/\w+/.*|\w+://.*", text):
        raise SystemExit(f"{command}\n{text}\nthis must not be on the page: {found[0]}")
    return text


def told(letter: str, story: Story, outer: Path, variables: dict[str, str]) -> Iterator[str]:
    """The section of a story, as it happens."""
    yield f"## {letter}. {story.title[0].upper()}{story.title[1:]}\n"
    for name in story.files if letter not in "bh" else ():  # those of story a
        yield f"`{name}`:\n\n```python\n{(FILES / name).read_text().rstrip()}\n```\n"
    folder = outer / letter
    folder.mkdir()
    for name in story.files:
        shutil.copy(FILES / name, folder)
    yield "```text"
    for number, command in enumerate(story.commands):
        yield f"$ {command}"
        expected = 2 if number >= len(story.commands) - story.refused else 0
        yield (printed(command, folder, variables, expected) + "\n").lstrip("\n")
    yield "```\n"


def sections(page: str) -> dict[str, str]:
    """Letter -> section of a page that is there already."""
    found = re.split(r"^## (\w)\. ", page, flags=re.MULTILINE)
    return {key: f"## {key}. {text}" for key, text in zip(found[1::2], found[2::2], strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("letters", nargs="*", metavar="LETTER", help="a to k; default: all")
    letters = parser.parse_args().letters or list(STORIES)
    with tempfile.TemporaryDirectory() as outer:
        variables = environment(Path(outer))
        for letter in letters:
            section = "\n".join(told(letter, STORIES[letter], Path(outer), variables))
            print(section, flush=True)
            known = sections(PAGE.read_text(encoding="utf-8")) if PAGE.is_file() else {}
            known[letter] = section
            head = HEAD.format(set_up="\n".join(SET_UP))
            page = [head, *(known[key].strip() + "\n" for key in STORIES if key in known)]
            PAGE.write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    main()
