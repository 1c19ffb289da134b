"""Loss and accuracy by epoch, from the histories that training stages leave."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpw_cli.report.draw import EndLabel, label_ends
from gpw_cli.report.frame import dig
from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import light, look, ramp
from gpw_cli.report.style import panels
from gpw_cli.report.summary import in_order
from gpw_cli.report.words import basis, percent, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = 24  # letters of a title in a line: the width of a panel


@dataclass(frozen=True)
class DrawnRun:
    """One training run. ``group``: its column of panels; ``scheme``: empty for a dense network;
    ``level``: what its colour stands for.
    """

    group: str
    scheme: str
    level: float
    rows: Sequence[Mapping[str, Any]]


def finetune_runs(sweep: Sweep) -> list[DrawnRun]:
    """The training of every finished run, grouped by scheme and variant."""
    done = sweep.done[sweep.done["finetune_history"] > 0]
    return [
        DrawnRun(
            ", ".join(part for part in (p["scheme"], p["variant"]) if part),
            p["scheme"],
            float(p["sparsity"]),
            dig(sweep.records[p["id"]], "stages.finetune.history"),
        )
        for p in in_order(done).to_dict("records")
    ]


def pretrain_runs(sweep: Sweep) -> list[DrawnRun]:
    """The training of each dense network, however many runs share it."""
    done = sweep.done[sweep.done["pretrain_history"] > 0].drop_duplicates("pretrain_key")
    return [
        DrawnRun(f"{p['model']}", "", i, dig(sweep.records[p["id"]], "stages.pretrain.history"))
        for i, p in enumerate(done.to_dict("records"))
    ]


def draw_finetuning(sweep: Sweep) -> Figure:
    """A pair of panels for each scheme: training loss above, accuracies below."""
    return _draw_runs(finetune_runs(sweep), percent)


def draw_pretraining(sweep: Sweep) -> Figure:
    """The same for the dense networks."""
    return _draw_runs(pretrain_runs(sweep), lambda _: "")


def _draw_runs(runs: list[DrawnRun], name: Callable[[float], str]) -> Figure:
    groups = list(dict.fromkeys(run.group for run in runs))
    across = min(2, len(groups))
    bands = [groups[i : i + across] for i in range(0, len(groups), across)]
    figure, grid = panels(2 * len(bands), across, [1.7, 2.1] * len(bands))
    levels = sorted({run.level for run in runs})
    labels: list[tuple[Axes, list[EndLabel]]] = []
    for row, band in enumerate(bands):
        for column in range(across):
            pair = grid[2 * row][column], grid[2 * row + 1][column]
            if column >= len(band):
                for axes in pair:
                    axes.set_axis_off()
                continue
            own = [run for run in runs if run.group == band[column]]
            labels.append((pair[1], _draw_pair(pair, own, levels, name)))
            pair[0].set_title(textwrap.fill(band[column], TITLE))
            if column == 0:
                pair[0].set_ylabel("Training loss")
                pair[1].set_ylabel("Accuracy (%)")
    _share_limits([axes for line in grid[::2] for axes in line if axes.axison])
    _share_limits([axes for line in grid[1::2] for axes in line if axes.axison])
    for axes, ends in labels:
        label_ends(axes, ends, size=7.5)
    return figure


def _draw_pair(
    pair: tuple[Axes, Axes],
    runs: list[DrawnRun],
    levels: list[float],
    name: Callable[[float], str],
) -> list[EndLabel]:
    """Returns the labels for the ends of the accuracy lines, one per level."""
    loss, accuracy = pair
    labels: dict[float, EndLabel] = {}
    for run in runs:
        colour = light(ramp(levels, run.level))
        epochs = [row["epoch"] for row in run.rows]
        tested = [row for row in run.rows if row.get("test_accuracy") is not None]
        loss.plot(epochs, [row["loss"] for row in run.rows], color=colour, linewidth=1.2)
        accuracy.plot(
            epochs, [row["train_accuracy"] for row in run.rows], color=colour, linewidth=1.2
        )
        accuracy.plot(
            [row["epoch"] for row in tested],
            [row["test_accuracy"] for row in tested],
            color=colour,
            linestyle="",
            marker=look("scheme", run.scheme).marker if run.scheme else "o",
            markersize=4.5,
        )
        final = (tested or run.rows)[-1]
        value = final.get("test_accuracy") or final["train_accuracy"]
        labels[run.level] = EndLabel(final["epoch"], value, name(run.level), colour)
    accuracy.set_xlabel("Epoch")
    last = max(row["epoch"] for run in runs for row in run.rows)
    for axes in pair:
        axes.set_xlim(min(1, last - 0.5) - 0.02 * last, last * 1.3)
        axes.set_xticks(sorted({1, (last + 1) // 2, last}))
    return [label for label in labels.values() if label.text]


def _share_limits(grid: list[Axes]) -> None:
    low = min(axes.get_ylim()[0] for axes in grid)
    high = max(axes.get_ylim()[1] for axes in grid)
    for axes in grid:
        axes.set_ylim(low, high)


def finetuning_caption(sweep: Sweep) -> str:
    """Where the runs end, and whether they still improved."""
    runs = finetune_runs(sweep)
    losses = [float(run.rows[-1]["loss"]) for run in runs]
    text = (
        f"One line per run ({len(runs)}), coloured by sparsity; lines are training values, marks "
        f"the test accuracy where it was evaluated. Final training loss {span(losses)}."
    )
    return f"{text} {_still_rising(runs)} {basis(sweep)}"


def pretraining_caption(sweep: Sweep) -> str:
    """Final accuracy of the dense networks."""
    runs = pretrain_runs(sweep)
    last = [
        row["test_accuracy"]
        for run in runs
        for row in run.rows[-1:]
        if row.get("test_accuracy") is not None
    ]
    reached = f" Final test accuracy {span(last)} %." if last else ""
    return f"The dense networks that pruning starts from ({len(runs)}).{reached} {basis(sweep)}"


def _still_rising(runs: list[DrawnRun]) -> str:
    """How much the test accuracy moved between the last two evaluations."""
    steps = []
    for run in runs:
        tested = [row for row in run.rows if row.get("test_accuracy") is not None]
        if len(tested) > 1:
            steps.append(float(tested[-1]["test_accuracy"]) - float(tested[-2]["test_accuracy"]))
    if not steps:
        return "Evaluated once, at the end."
    rising = sum(step > 0 for step in steps)
    return (
        f"Between the last two evaluations {rising} of {len(steps)} still rose "
        f"(median {sorted(steps)[len(steps) // 2]:+.2f} percentage points)."
    )
