"""simulate: the network as one NPU program, run bit for bit over the pictures, and its cycles."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from gpw_cli.data.pictures import Split, normalise
from gpw_cli.errors import ProgramError
from gpw_cli.graph.integer import IntGraph
from gpw_cli.graph.integer_io import load
from gpw_cli.quantization.reference import quantize_input, run
from gpw_cli.stages.integers import LAYERS
from gpw_cli.stages.pipeline import Job
from gpw_cli.targets.vta.functional import Simulator
from gpw_cli.targets.vta.lowering import compile_graph
from gpw_cli.targets.vta.program import Program
from gpw_cli.targets.vta.target import spec_of
from gpw_cli.targets.vta.timing import TimingReport, time_program

TIMING = "timing.json"
CHUNK = 1024  # pictures between two progress reports


def build(job: Job) -> dict[str, Any]:
    """Accuracy of the program's own output, cycles in all and by layer, traffic and bounds.

    Raises ProgramError if any logit differs from the integer reference executor's.
    """
    job.services.device()
    graph = load(job.upstream["fuse"].path)
    program = compile_graph(graph, spec_of(job.config.target))
    measured = _run(job, graph, program)
    report = time_program(program, job.config.target.timing)
    (job.work / TIMING).write_text(json.dumps(report.to_dict()))
    (job.work / LAYERS).write_text(json.dumps(_layers(report)))
    return {
        **measured,
        "cycles": report.cycles,
        "bound_cycles": report.bound_cycles,
        "bound": dict(report.bound),
        "milliseconds": report.milliseconds,
        "clock_mhz": report.clock_mhz,
        "gemm_uops": report.gemm_uops,
        "gemm_utilisation": round(report.gemm_utilisation, 6),
        "dram_bytes": int(sum(report.dram_bytes.values())),
        "instructions": program.length,
        "min_gemm_distance": program.min_gemm_distance,
    }


def _run(job: Job, graph: IntGraph, program: Program) -> dict[str, Any]:
    """Every picture through the encoded program and through the reference executor."""
    test = job.services.pictures(job.config).test
    count = min(job.config.simulate.images or len(test), len(test))
    simulator = Simulator(program)
    right, started = 0, time.perf_counter()
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        logits, labels = _logits(simulator, graph, Split(test.images, test.labels), start, stop)
        right += int((logits.argmax(1) == labels).sum())
        job.services.listener.progress("simulate: pictures", stop, count)
    seconds = time.perf_counter() - started
    job.services.listener.message(
        f"simulate: {count:,} pictures in {seconds:.1f} s, every logit equal to the reference"
    )
    return {
        "test_accuracy": round(100.0 * right / count, 4),
        "n_test": count,
        "logits_equal_reference": True,
    }


def _logits(
    simulator: Simulator, graph: IntGraph, test: Split, start: int, stop: int
) -> tuple[Any, Any]:
    x = quantize_input(graph, normalise(test.images[start:stop], graph.mean, graph.std))
    logits = simulator.run(x).logits
    different = np.argwhere(logits != run(graph, x))
    if len(different):
        picture, index = different[0]
        raise ProgramError(
            f"simulate: logit {index} of test picture {start + picture} differs from the integer "
            f"reference ({len(different)} of {logits.size} differ); this is a fault of gpw"
        )
    return logits, test.labels[start:stop].numpy()


def _layers(report: TimingReport) -> list[dict[str, Any]]:
    """A row a layer: its cycles, split by what ran in them."""
    return [{"name": layer.name, "cycles": layer.cycles, **layer.split} for layer in report.layers]
