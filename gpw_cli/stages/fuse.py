"""fuse: fused integer network, convolutions with the scale of their ReLU (papers/001, eq. 4)."""

from __future__ import annotations

from typing import Any

from gpw_cli.graph import float_io
from gpw_cli.quantization.quantize import quantize_graph
from gpw_cli.quantization.ranges import Ranges
from gpw_cli.stages.integers import float_graph, leave
from gpw_cli.stages.pipeline import Job


def build(job: Job) -> dict[str, Any]:
    """The fused integer graph, and the accuracy before and after fusion."""
    job.services.device()
    unfused, quantizer = job.upstream["quantize"], job.config.quantizer
    graph = float_io.load(unfused.path) or float_graph(job)  # older artifacts lack it
    ranges = Ranges.load(unfused.path)
    integers = quantize_graph(graph, ranges, quantizer, fused=True)
    metrics = leave(job, graph, ranges, integers, fused=True)
    before = unfused.metrics["test_accuracy"]
    return {"fusion": quantizer.fusion.value, "accuracy_unfused": before, **metrics}
