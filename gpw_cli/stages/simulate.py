"""simulate: accuracy and cycles of the network on its NPU."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from gpw_cli.data.images import Split
from gpw_cli.errors import ProgramError
from gpw_cli.graph.integer import IntGraph
from gpw_cli.graph.integer_io import load
from gpw_cli.quantization.reference import accuracy, quantize_images, run
from gpw_cli.stages.costs import dense_cycles
from gpw_cli.stages.integers import LAYERS, LOGITS
from gpw_cli.stages.pipeline import Job
from gpw_cli.targets.base import Compiled, DataDependent, Simulates, Timing
from gpw_cli.targets.registry import npu_of

TIMING = "timing.json"
CHUNK = 1024  # images between two progress reports


def build(job: Job) -> dict[str, Any]:
    """Accuracy on the NPU; cycles in total and by layer, DRAM traffic and bounds of a run.

    Raises ProgramError if the program of a bit-exact target gives a logit that differs from the
    integer reference executor.
    """
    job.services.device()
    graph = load(job.upstream["fuse"].path)
    compiled = npu_of(job.config.target).compile(graph)
    measured = _accuracy(job, graph, compiled)
    report = _timing(job, graph, compiled)
    (job.work / TIMING).write_text(json.dumps(report.to_dict()))
    (job.work / LAYERS).write_text(json.dumps(_layers(report)))
    dense = dense_cycles(job) if "finetune" in job.upstream else None
    counts = {k: round(v, 6) if isinstance(v, float) else v for k, v in report.counts().items()}
    return {
        **measured,
        **({"pictures_per_run": report.images} if report.images > 1 else {}),
        "cycles": report.cycles,
        **({"dense_cycles": dense} if dense is not None else {}),
        "bound_cycles": report.bound_cycles,
        "bound": dict(report.bound),
        "milliseconds": report.milliseconds,
        "clock_mhz": report.clock_mhz,
        **counts,
        **({"cycles_by_pass": dict(report.cycles_by_pass)} if report.cycles_by_pass else {}),
        "dram_bytes": int(sum(report.dram_bytes.values())),
        **compiled.facts,
    }


def _timing(job: Job, graph: IntGraph, compiled: Compiled) -> Timing:
    """The timing, on the first test images if the cycles depend on the images."""
    if not isinstance(compiled, DataDependent):
        return compiled.time()
    images = job.services.images(job.config).test.images[: compiled.timed_images]
    return compiled.time_on(quantize_images(graph, images))


def _accuracy(job: Job, graph: IntGraph, compiled: Compiled) -> dict[str, Any]:
    """Accuracy of the simulated program, or of the integer reference without a simulator."""
    wanted = job.config.simulate.images or job.config.evaluate.images
    images = job.services.images(job.config).test.first(wanted)
    if isinstance(compiled, Simulates):
        return _simulated(job, graph, compiled, images)
    before = job.upstream["fuse"].metrics
    value = (
        before["test_accuracy"]
        if before["n_test"] == len(images)
        else round(100.0 * accuracy(graph, images), 4)
    )
    job.services.listener.message(
        f"simulate: {job.config.target.name} has no functional simulation; the accuracy is that of "
        "the integer reference"
    )
    return {"test_accuracy": value, "n_test": len(images), "accuracy_of": "integer reference"}


def _simulated(job: Job, graph: IntGraph, compiled: Simulates, test: Split) -> dict[str, Any]:
    """Simulate all images, and compare with the reference if the target is bit-exact."""
    simulate, exact = compiled.simulator(), compiled.bit_exact
    expected = reference_logits(job, len(test)) if exact else None
    right, started = 0, time.perf_counter()
    for start in range(0, len(test), CHUNK):
        part = slice(start, min(start + CHUNK, len(test)))
        x = quantize_images(graph, test.images[part])
        logits = simulate(x)
        if exact:
            _compare(logits, run(graph, x) if expected is None else expected[part], start)
        right += int((logits.argmax(1) == test.labels[part].numpy()).sum())
        job.services.listener.progress("simulate: images", part.stop, len(test))
    seconds = time.perf_counter() - started
    how = "every logit equal to the reference" if exact else "in the arithmetic of the NPU itself"
    job.services.listener.message(f"simulate: {len(test):,} images in {seconds:.1f} s, {how}")
    whose = {"logits_equal_reference": True} if exact else {"accuracy_of": "own arithmetic"}
    return {"test_accuracy": round(100.0 * right / len(test), 4), "n_test": len(test), **whose}


def reference_logits(job: Job, count: int) -> NDArray[np.int32] | None:
    """The reference's logits of the first ``count`` test images, where fuse has left as many."""
    file = job.upstream["fuse"].file(LOGITS)
    if not file.is_file():
        return None
    logits = load_file(file)["logits"][:count]
    return logits if len(logits) == count else None


def _compare(logits: NDArray[Any], reference: NDArray[np.int32], start: int) -> None:
    different = np.argwhere(logits != reference)
    if len(different):
        image, index = different[0]
        raise ProgramError(
            f"simulate: logit {index} of test image {start + image} differs from the integer "
            f"reference ({len(different)} of {logits.size} differ); this is a fault of gpw"
        )


def _layers(report: Timing) -> list[dict[str, Any]]:
    """A row per layer: its cycles, split by unit."""
    return [{"name": layer.name, "cycles": layer.cycles, **layer.split} for layer in report.layers]
