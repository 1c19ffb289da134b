"""quantize: ranges from calibration, power-of-two scales, and the unfused integer network."""

from __future__ import annotations

from typing import Any

from gpw_cli.graph import float_io
from gpw_cli.quantization.quantize import quantize_graph
from gpw_cli.stages.integers import float_graph, float_ranges, leave
from gpw_cli.stages.pipeline import Job


def build(job: Job) -> dict[str, Any]:
    """The unfused integer graph, ranges, scales, and the accuracy of the integers."""
    job.services.device()  # sets the thread count of this process
    graph, quantizer = float_graph(job), job.config.quantizer
    ranges = float_ranges(job, graph)
    ranges.save(job.work)
    float_io.save(graph, job.work)
    integers = quantize_graph(graph, ranges, quantizer, fused=False)
    metrics = leave(job, graph, ranges, integers, fused=False)
    return {
        "weight_bits": quantizer.weight_bits,
        "act_bits": quantizer.act_bits,
        "calibration": ranges.images,
        **metrics,
    }
