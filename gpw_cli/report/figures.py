"""The table of the report's figures: a new figure is one entry.

A figure is drawn if some finished run has a value in each column of ``needs``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpw_cli.report import (
    accuracy,
    frontier,
    knobs,
    layers,
    masks,
    npu,
    overlay,
    passes,
    quantization,
    roofline,
    stages,
    targets,
    training,
)
from gpw_cli.report.load import Sweep
from gpw_cli.report.style import drawing, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ReportFigure:
    """``name``: of the files. ``draw`` and ``caption`` take the sweep."""

    name: str
    title: str
    needs: tuple[str, ...]
    draw: Callable[[Sweep], Figure]
    caption: Callable[[Sweep], str]
    when: Callable[[Sweep], bool] = lambda sweep: True

    def applies(self, sweep: Sweep) -> bool:
        """Whether the sweep has what this figure shows."""
        return all(sweep.has(column) for column in self.needs) and self.when(sweep)


def compares_sparsities(sweep: Sweep) -> bool:
    """False for a study of quantizers at one sparsity: its curves would be single points."""
    studied = quantization.varies(sweep) or knobs.turns(sweep)
    sparsities = sweep.done["sparsity"].dropna()
    return not studied or sparsities[sparsities > 0].nunique() > 1


@dataclass(frozen=True)
class Drawn:
    """A figure ready to be written."""

    name: str
    title: str
    caption: str
    png: bytes
    svg: str


FIGURES = (
    ReportFigure(
        "accuracy_vs_sparsity",
        "Accuracy against sparsity",
        ("accuracy", "sparsity"),
        accuracy.draw_accuracy,
        accuracy.accuracy_caption,
        compares_sparsities,
    ),
    ReportFigure(
        "accuracy_on_npu",
        "Accuracy on the NPU",
        ("npu_accuracy", "sparsity"),
        npu.draw_npu_accuracy,
        npu.npu_accuracy_caption,
        compares_sparsities,
    ),
    ReportFigure(
        "accuracy_by_stage",
        "Accuracy by stage",
        ("dense_accuracy", "quantized_accuracy", "sparsity"),
        stages.draw_stages,
        stages.stages_caption,
        compares_sparsities,
    ),
    ReportFigure(
        "cycles_vs_sparsity",
        "Cycles and speed-up against sparsity",
        ("cycles", "sparsity"),
        npu.draw_cycles,
        npu.cycles_caption,
        compares_sparsities,
    ),
    ReportFigure(
        "targets",
        "NPUs side by side",
        ("cycles", "target"),
        targets.draw_targets,
        targets.targets_caption,
        targets.several,
    ),
    ReportFigure(
        "accuracy_vs_cycles",
        "Accuracy against cycles, milliseconds and DRAM bytes",
        ("cycles", "npu_accuracy"),
        overlay.draw_overlay,
        frontier.frontier_caption,
    ),
    ReportFigure(
        "roofline",
        "Roofline",
        ("cycles", "dram_bytes"),
        roofline.draw_roofline,
        roofline.roofline_caption,
        roofline.known,
    ),
    ReportFigure(
        "cycles_by_pass",
        "Cycles by pass",
        ("counted_passes",),
        passes.draw_passes,
        passes.passes_caption,
    ),
    ReportFigure(
        "layer_cycles",
        "Cycles by layer",
        ("timed_layers",),
        npu.draw_layer_cycles,
        npu.layer_cycles_caption,
    ),
    ReportFigure(
        "accuracy_vs_bits",
        "Quantizers and bits",
        ("fused_accuracy", "weight_bits"),
        quantization.draw_bits,
        quantization.bits_caption,
        quantization.varies,
    ),
    ReportFigure(
        "knobs",
        "One knob at a time",
        ("fused_accuracy", "weight_bits"),
        knobs.draw_knobs,
        knobs.knobs_caption,
        knobs.turns,
    ),
    ReportFigure(
        "ranges_and_scales",
        "Ranges and scales",
        ("quantized_layers",),
        quantization.draw_scales,
        quantization.scales_caption,
    ),
    ReportFigure(
        "accuracy_before_finetuning",
        "Before fine-tuning",
        ("pruned_accuracy", "sparsity"),
        accuracy.draw_before,
        accuracy.before_caption,
        compares_sparsities,
    ),
    ReportFigure(
        "mask",
        "The mask of one layer",
        ("drawable_masks", "sparsity"),
        masks.draw_masks,
        masks.masks_caption,
        compares_sparsities,
    ),
    ReportFigure(
        "layer_sparsity",
        "Sparsity by layer",
        ("pruned_layers", "sparsity"),
        layers.draw_layers,
        layers.layers_caption,
        compares_sparsities,
    ),
    ReportFigure(
        "finetuning_curves",
        "Fine-tuning",
        ("finetune_history", "sparsity"),
        training.draw_finetuning,
        training.finetuning_caption,
        compares_sparsities,
    ),
    ReportFigure(
        "pretraining_curves",
        "Pre-training",
        ("pretrain_history",),
        training.draw_pretraining,
        training.pretraining_caption,
        compares_sparsities,
    ),
)


def draw_all(sweep: Sweep) -> list[Drawn]:
    """Every figure that applies, in the table's order."""
    drawn = []
    for entry in FIGURES:
        if entry.applies(sweep):
            with drawing(entry.name):
                png, svg = render(entry.draw(sweep))
            drawn.append(Drawn(entry.name, entry.title, entry.caption(sweep), png, svg))
    return drawn
