"""simulate: the network as one NPU program, run bit for bit over the pictures, and its cycles."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.data.pictures import Split, normalise
from gpw_cli.errors import ProgramError
from gpw_cli.graph.integer import IntGraph
from gpw_cli.graph.integer_io import load
from gpw_cli.quantization.reference import quantize_input, run
from gpw_cli.stages.integers import LAYERS
from gpw_cli.stages.pipeline import Job
from gpw_cli.targets.base import Timing
from gpw_cli.targets.registry import npu_of

TIMING = "timing.json"
CHUNK = 1024  # pictures between two progress reports
Run = Callable[[NDArray[np.int8]], NDArray[np.int32]]  # pictures to logits, by the program


def build(job: Job) -> dict[str, Any]:
    """Accuracy of the program's own output; cycles of a run, in all and by layer, traffic, bounds.

    Raises ProgramError if any logit differs from the integer reference executor's.
    """
    job.services.device()
    graph = load(job.upstream["fuse"].path)
    compiled = npu_of(job.config.target).compile(graph)
    measured = _run(job, graph, compiled.simulator())
    report = compiled.time()
    (job.work / TIMING).write_text(json.dumps(report.to_dict()))
    (job.work / LAYERS).write_text(json.dumps(_layers(report)))
    return {
        **measured,
        **({"pictures_per_run": report.pictures} if report.pictures > 1 else {}),
        "cycles": report.cycles,
        "bound_cycles": report.bound_cycles,
        "bound": dict(report.bound),
        "milliseconds": report.milliseconds,
        "clock_mhz": report.clock_mhz,
        "gemm_uops": report.gemm_uops,
        "gemm_utilisation": round(report.gemm_utilisation, 6),
        "dram_bytes": int(sum(report.dram_bytes.values())),
        **compiled.facts,
    }


def _run(job: Job, graph: IntGraph, simulate: Run) -> dict[str, Any]:
    """Every picture through the encoded program and through the reference executor."""
    test = job.services.pictures(job.config).test
    count = min(job.config.simulate.images or len(test), len(test))
    right, started = 0, time.perf_counter()
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        logits, labels = _logits(simulate, graph, Split(test.images, test.labels), start, stop)
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


def _logits(simulate: Run, graph: IntGraph, test: Split, start: int, stop: int) -> tuple[Any, Any]:
    x = quantize_input(graph, normalise(test.images[start:stop], graph.mean, graph.std))
    logits = simulate(x)
    different = np.argwhere(logits != run(graph, x))
    if len(different):
        picture, index = different[0]
        raise ProgramError(
            f"simulate: logit {index} of test picture {start + picture} differs from the integer "
            f"reference ({len(different)} of {logits.size} differ); this is a fault of gpw"
        )
    return logits, test.labels[start:stop].numpy()


def _layers(report: Timing) -> list[dict[str, Any]]:
    """A row a layer: its cycles, split by what ran in them."""
    return [{"name": layer.name, "cycles": layer.cycles, **layer.split} for layer in report.layers]
