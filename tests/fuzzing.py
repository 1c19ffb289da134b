"""Random input for the command line and for every file that it reads, and what may come of it.

``scripts/fuzz.py`` tries thousands, the tests a few: either the command is done, or it says what is
wrong in one line and ends with 2.
"""

from __future__ import annotations

import io
import json
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from typing import Any

from hypothesis import strategies as st

from gpw_cli.cli.main import run
from gpw_cli.config.compose import SHORT
from gpw_cli.config.composed import GROUPS, keys
from gpw_cli.config.paths import options

LONGEST = 20  # seconds that any command here may take
COMMANDS = (
    ("config",),
    ("config", "--json"),
    ("prune", "--dry-run"),
    ("sweep", "--dry-run", "--until", "prune"),
    ("sweep", "--dry-run", "--json", "--until", "pretrain"),
)


class Fault(AssertionError):
    """A traceback, a hang, another exit code, or more or less than one line."""


@contextmanager
def patient(seconds: int = LONGEST) -> Iterator[None]:
    """Raises Fault in the block after so many seconds of computing, or ten times as many at all."""

    def late(number: int, frame: object) -> None:
        raise Fault(f"still running after {seconds} s")

    timers = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    before = {number: signal.signal(number, late) for number in timers}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    try:
        yield
    finally:
        for number, timer in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def check_command(arguments: Sequence[str]) -> int:
    """Run ``gpw ARGUMENTS`` in this process; its exit code, 0 or 2. Raises Fault."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["gpw", *arguments]
    try:
        with patient(), redirect_stdout(out), redirect_stderr(err):
            code = run()
    except Fault:
        raise
    except BaseException as error:
        raise Fault(f"{arguments!r}: {type(error).__name__}: {error}") from error
    finally:
        sys.argv = before
    lines = [line for line in err.getvalue().splitlines() if not line.startswith("planning: ")]
    if code not in (0, 2) or (code == 2 and (len(lines) != 1 or not lines[0].startswith("gpw: "))):
        raise Fault(f"{arguments!r}: exit code {code}, {len(lines)} lines: {lines[:3]}")
    if "Traceback" in err.getvalue():
        raise Fault(f"{arguments!r}: a traceback")
    return code


@cache
def known_keys() -> tuple[str, ...]:
    """Every key of every target, all groups and short forms."""
    found = {key for name in options("target") for key in keys((f"target={name}",))}
    packages = ("train@pretrain.train", "train@finetune.train", "train@x", "+experiment")
    return tuple(sorted({*found, *SHORT, *GROUPS, *packages, "runtime.trackers"}))


def words(text: str) -> list[str]:
    """Between its blanks."""
    return text.split()


NUMBERS = st.one_of(
    st.integers(-3, 40).map(str),
    st.integers().map(str),
    st.floats().map(repr),
    st.floats(0, 1).map(repr),
    st.sampled_from(words("0 1 -1 1e308 1e309 1e-400 nan inf -inf 0x10 1_000 .5 5. -0.0 007")),
    st.integers(18, 5000).map(lambda n: "9" * n),
)
WORDS = st.sampled_from(
    words(
        "true false null ??? on dense gpw block global cycles fast paper best auto scratch bundled "
        "resnet20 digits cifar10 imagefolder vta simba nvdla_small A B /dev/zero /dev/null / . .. "
        "~ /nonexistent /proc/self/mem _target_ ${seed} ${oc.env:HOME} ${nothing} ${pruning} ${ "
        "resnet8 resnet9 resnet99999999999999999998 mlflow tensorboard [mlflow] [nope] {} [] l1 "
        "taylor !!python/object:os.system"
    )
)
TEXT = st.one_of(
    st.text(max_size=12),
    st.text("abc=:,.[]{}()'\"\\$!#%&*+~@/-_ \n\t0159eE", max_size=16),
)
RANGES = st.one_of(
    st.tuples(st.integers(0, 5), st.integers(0, 9)).map(lambda t: f"0.{t[0]}:0.{t[1]}"),
    st.lists(NUMBERS, min_size=2, max_size=4).map(":".join),
)
CALLS = st.tuples(
    st.sampled_from(words("choice range interval glob sort shuffle int str bool float x")),
    st.lists(st.one_of(NUMBERS, WORDS), max_size=3).map(",".join),
).map(lambda t: f"{t[0]}({t[1]})")
SIMPLE = st.one_of(NUMBERS, WORDS, TEXT, RANGES, CALLS, st.just(""))
NESTED = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.lists(st.tuples(WORDS, inner), max_size=2).map(
            lambda pairs: "{" + ",".join(f"{k}:{v}" for k, v in pairs) + "}"
        ),
        st.lists(inner, min_size=2, max_size=3).map(",".join),
        inner.map(lambda value: f"'{value}'"),
    ),
    max_leaves=4,
)


def overrides() -> st.SearchStrategy[str]:
    """``key=value`` with every key and every kind of value, and now and then neither."""
    known = st.sampled_from(known_keys())
    named = st.sampled_from(GROUPS).flatmap(
        lambda group: st.sampled_from(options(group) or ["x"]).map(lambda name: f"{group}={name}")
    )
    odd = st.tuples(st.sampled_from(["+", "~", "++", "@", " "]), known).map("".join)
    key = st.one_of(known, known, known, odd, TEXT)
    pair = st.tuples(key, st.sampled_from(("=",) * 6 + ("==", ":")), NESTED).map("".join)
    # no text that the system cannot pass to a command
    return st.one_of(pair, pair, pair, named, TEXT).map(lambda text: text.replace("\0", "0"))


def command_lines() -> st.SearchStrategy[list[str]]:
    """A command that runs nothing, with one to three overrides."""
    own = overrides().filter(lambda text: not text.startswith("-"))
    given = st.lists(own, min_size=1, max_size=3)
    return st.tuples(st.sampled_from(COMMANDS), given).map(lambda t: [*t[0], *t[1]])


def mutated(content: bytes, chosen: random.Random) -> bytes:
    """``content`` with one to eight changes of bits, bytes and lengths."""
    data = bytearray(content)
    for _ in range(chosen.choice((1, 1, 1, 2, 3, 8))):
        if not data:
            break
        at, length = chosen.randrange(len(data)), chosen.choice((1, 4, 8, 64, 1024))
        kind = chosen.randrange(6)
        if kind == 0:
            data[at] ^= 1 << chosen.randrange(8)
        elif kind == 1:
            data[at : at + length] = chosen.randbytes(length)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = data[chosen.randrange(len(data)) :][:length]
        else:
            data[at : at + 8] = chosen.choice((0, 1 << 31, 1 << 62, (1 << 64) - 1)).to_bytes(
                8, chosen.choice(("little", "big"))
            )
    return bytes(data)


ODD: tuple[Any, ...] = (None, True, 0, -1, 2**70, 1e308, "", "x", "../x", "a/b", "\0", [], [1], {})


def mutated_json(text: str, chosen: random.Random) -> bytes:
    """The document with one value somewhere in it replaced or removed; or mutated bytes."""
    if chosen.random() < 0.3:
        return mutated(text.encode(), chosen)
    document = json.loads(text)
    for _ in range(chosen.choice((1, 1, 2, 4))):
        spots = list(_spots(document))
        if not spots:
            break
        holder, key = chosen.choice(spots)
        if chosen.random() < 0.2:
            del holder[key]
        else:
            holder[key] = chosen.choice(ODD)
    return json.dumps(chosen.choice((document, document, document, [document]))).encode()


def _spots(value: Any) -> Iterator[tuple[Any, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(inner) if isinstance(value, dict | list) else ():
        yield value, key
        if isinstance(item, dict | list):
            yield from _spots(item)


def repeated(
    count: int, seed: int, change: Callable[[random.Random], bytes], check: Callable[[bytes], bool]
) -> int:
    """How many of ``count`` changes ``check`` accepted; raises its Fault with the number of the
    change, which makes the same one again.
    """
    accepted = 0
    for number in range(count):
        content = change(random.Random(f"{seed}-{number}"))
        try:
            with patient():
                accepted += check(content)
        except Exception as error:
            raise Fault(f"change {seed}-{number}: {type(error).__name__}: {error}") from error
    return accepted
