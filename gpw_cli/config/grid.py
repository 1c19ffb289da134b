"""The sweep grammar: ``lo:hi[:step]`` in exact decimals, comma lists, and their expansion.

    >>> expand(["sparsity=0.5:0.7", "scheme=block,gpw"])[1]
    {'sparsity': ['0.5', '0.6', '0.7'], 'scheme': ['block', 'gpw']}

Hydra's float ``range`` is not used, because its number of values depends on its version.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from gpw_cli.config.compose import settings
from gpw_cli.errors import UsageError

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"({NUMBER}):({NUMBER})(?::({NUMBER}))?")
DEFAULT_GRID: Mapping[str, list[str]] = {"scheme": ["dense", "block", "gpw"]}
MAX_POINTS = 10_000  # in one range
MAX_DIGITS = 12
SCHEME = settings("scheme")
# what makes a dense network train on (stages/pipeline.py), and its value when it does not
DENSE_TRAINED: Mapping[str, str] = {"finetune.quantized": "false", "finetune.shared.bits": "0"}
EXPERIMENT_KEYS = ("experiment", "+experiment")


def decimal_range(text: str) -> list[str]:
    """The values of ``lo:hi`` or ``lo:hi:step``, both ends included.

    The default step is one unit of the last digit. Raises UsageError for hi < lo, a step that is
    not positive, and a step that misses hi.
    """
    match = RANGE.fullmatch(text)
    if match is None:
        raise UsageError(f"'{text}' is no range: write lo:hi or lo:hi:step, as in 0.5:0.9:0.1")
    if any(_is_extreme(number) for number in match.groups() if number):
        raise UsageError(f"'{text[:60]}': a number of a range has at most {MAX_DIGITS} digits")
    low, high = Decimal(match[1]), Decimal(match[2])
    digits = min(_exponent(low), _exponent(high))
    step = Decimal(match[3]) if match[3] else Decimal(1).scaleb(digits)
    if high < low or step <= 0:
        raise UsageError(f"'{text}': needs lo <= hi and a step above 0, as in 0.5:0.9:0.1")
    count, rest = divmod(high - low, step)
    if rest:
        last = low + count * step
        raise UsageError(
            f"'{text}': step {step} misses {high} (last point {last}); write {low}:{last}:{step}"
        )
    if count >= MAX_POINTS:
        raise UsageError(f"'{text}' has {count + 1} values; at most {MAX_POINTS} are allowed")
    return [plain(low + index * step) for index in range(int(count) + 1)]


def _is_extreme(number: str) -> bool:
    """Whether ``number`` has too many digits for exact arithmetic."""
    _, _, exponent = number.lower().partition("e")
    if len(number) > 2 * MAX_DIGITS or len(exponent) > 3:
        return True
    value = Decimal(number)
    return value.adjusted() > MAX_DIGITS or _exponent(value) < -MAX_DIGITS


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def plain(value: Decimal) -> str:
    """``value`` without exponent and trailing zeros: 0.50 -> '0.5', 1E+1 -> '10'."""
    text = format(value.normalize(), "f")
    return "0" if text == "-0" else text


def values(text: str) -> list[str]:
    """The values on the right-hand side of an override, in order, without repeats."""
    if text[:1] in "[{'\"" or "(" in text:
        return [text]
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"'{text}' has an empty value between its commas")
    found = [v for part in parts for v in (decimal_range(part) if _is_range(part) else [part])]
    return list(dict.fromkeys(found))


def _is_range(text: str) -> bool:
    return ":" in text and re.match(rf"{NUMBER}:", text) is not None


def expand(overrides: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """(fixed overrides, axes): settings with one value, and swept settings, default axis first.

    The default axis (block, gpw and the dense network) is added unless ``scheme``, ``pruning`` or
    an experiment is given. Raises UsageError for invalid values, and for a setting that is both
    fixed and swept.
    """
    fixed: list[str] = []
    axes: dict[str, list[str]] = {}
    given = {_name(o) for o in overrides}
    if not given & {*EXPERIMENT_KEYS} and SCHEME not in map(settings, given):
        axes.update(DEFAULT_GRID)
    for override in overrides:
        name, sign, text = override.partition("=")
        found = values(text) if sign else [text]
        if len(found) > 1:
            axes[name] = found
        else:
            fixed.append(f"{name}={found[0]}" if sign else override)
    _refuse_repeats(fixed, axes)
    return fixed, axes


def _refuse_repeats(fixed: Sequence[str], axes: Mapping[str, list[str]]) -> None:
    for axis in axes:
        for name in map(_name, fixed):
            if settings(name) == settings(axis):
                raise UsageError(f"{name} and {axis} are the same setting: give one of them")


def overlaid(
    grids: Sequence[Mapping[str, str]], fixed: Sequence[str], axes: Mapping[str, list[str]]
) -> list[dict[str, list[str]]]:
    """The grids of an experiment, with values from the command line replacing its own.

    fixed, axes: from ``expand``. A fixed override removes its axis from all grids, whatever form it
    is written in. A new axis is added to all grids.
    """
    given = frozenset[str]().union(*(settings(name) for name in [*map(_name, fixed), *axes]))
    return [
        {name: values(text) for name, text in grid.items() if not settings(name) <= given}
        | dict(axes)
        for grid in grids
    ]


def in_order(overrides: Sequence[str]) -> list[str]:
    """``overrides`` with groups before single settings, so that groups do not undo those."""
    return sorted(overrides, key=lambda text: -len(settings(_name(text))))


def _name(override: str) -> str:
    return override.partition("=")[0]


def product(
    axes: Mapping[str, list[str]], trained: Mapping[str, str] = DENSE_TRAINED
) -> list[dict[str, str]]:
    """All combinations, last axis fastest, with a single dense network for all sparsities.

    trained: the settings of ``DENSE_TRAINED``, for those that no axis sets.
    """
    points = [dict(zip(axes, chosen, strict=True)) for chosen in itertools.product(*axes.values())]
    found = [_without_pruning(point, trained) if _dense(point) else point for point in points]
    return list({tuple(point.items()): point for point in found}.values())


def dense_beside(
    points: Sequence[Mapping[str, str]], trained: Mapping[str, str] = DENSE_TRAINED
) -> list[dict[str, str]]:
    """The dense network for each combination of the axes of ``points`` that it has."""
    found = []
    for point in points:
        own = {key: value for key, value in point.items() if settings(key) != SCHEME}
        found.append({"scheme": "dense", **_without_pruning(own, trained)})
    return list({tuple(point.items()): point for point in found}.values())


def overridden(fixed: Sequence[str], axes: Mapping[str, str]) -> list[str]:
    """The overrides of one run: ``fixed`` and its own ``axes``.

    A dense network that stands beside pruned ones has none of their settings of pruning.
    """
    own = [f"{key}={value}" for key, value in axes.items()]
    given = {override: settings(_name(override)) for override in fixed}
    if _dense(axes) and SCHEME in given.values():
        pruning = {
            o for o, names in given.items() if all(f"{n}.".startswith("pruning.") for n in names)
        }
        fixed = [override for override in fixed if override not in pruning]
    return in_order([*fixed, *own])


def _dense(point: Mapping[str, str]) -> bool:
    return any(settings(key) == SCHEME and value == "dense" for key, value in point.items())


def _without_pruning(point: Mapping[str, str], trained: Mapping[str, str]) -> dict[str, str]:
    """The axes of ``point`` that apply to a dense network."""
    unused: tuple[str, ...] = ("pruning.", "finetune.", "train@finetune.")
    if any(point.get(key, value).lower() not in ("false", "0") for key, value in trained.items()):
        unused = ("pruning.",)
    return {
        key: value
        for key, value in point.items()
        if not all(setting.startswith(unused) for setting in settings(key))
    }
