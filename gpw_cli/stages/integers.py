"""Shared by the integer stages: the float graph of the trained network, and accuracy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from safetensors.numpy import load_file, save_file

from gpw_cli.data.images import normalise
from gpw_cli.graph.integer_io import save
from gpw_cli.graph.parameters import with_parameters
from gpw_cli.graph.trace import trace
from gpw_cli.pruning.groups import Scheme
from gpw_cli.quantization.quantize import prepare
from gpw_cli.quantization.ranges import FILE as RANGES
from gpw_cli.quantization.ranges import Ranges, calibrate
from gpw_cli.quantization.reference import share_right, split_logits
from gpw_cli.quantization.summary import summarise
from gpw_cli.stages.network import load_network

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gpw_cli.config.schema import Config
    from gpw_cli.graph.integer import IntGraph
    from gpw_cli.graph.ir import Graph
    from gpw_cli.stages.pipeline import Job

LAYERS = "layers.json"
TRAINED = "quantized.safetensors"  # folded weights, trained as integers or with shared values
LOGITS = "logits.safetensors"  # of the evaluated test images through the fused integer graph
MAX_LOGITS = 4 << 20
BATCH = 256


def float_graph(job: Job) -> Graph:
    """The fine-tuned or, if dense, pre-trained network as a graph to quantize."""
    source = job.upstream.get("finetune", job.upstream["pretrain"])
    model, _ = load_network(source, job.config)
    trained = source.file(TRAINED)
    if not trained.is_file():
        return prepared(job, model, equalise=True, packed=packs(job.config))
    return with_parameters(prepared(job, model, equalise=False), load_file(trained))


def packs(config: Config) -> bool:
    """Whether removed channels are removed from the tensors too, as for scheme ``channel``."""
    return config.pruning.scheme.grouping.packs and not config.pruning.keep_shift


def prepared(job: Job, model: nn.Module, *, equalise: bool, packed: bool = False) -> Graph:
    """``model`` traced and folded, and equalised if the quantizer and ``equalise`` say so.

    Dead nodes are removed unless ``pruning.keep_shift`` asks for the network as it was before this
    pass existed: removing a constant channel would change other scales and hence roundings.
    """
    images = job.services.images(job.config)
    graph = trace(model, images.shape, images.mean, images.std)
    pruning, quantizer = job.config.pruning, job.config.quantizer
    kept = pruning.keep_shift and pruning.scheme is not Scheme.dense
    cfg = replace(quantizer, equalise=quantizer.equalise and equalise)
    return prepare(graph, cfg, keep_dead=kept, packed=packed)


def float_ranges(job: Job, graph: Graph) -> Ranges:
    """Ranges of ``graph``: those of quantized training, else calibrated now."""
    source = job.upstream.get("finetune", job.upstream["pretrain"])
    if source.file(RANGES).is_file():
        return Ranges.load(source.path)
    return calibrate(graph, calibration_batches(job), job.config.quantizer)


def calibration_batches(job: Job) -> Iterator[Tensor]:
    """Normalised training images without augmentation, in the order of the data set."""
    data = job.services.images(job.config)
    images = data.train.images[: job.config.quantizer.calibration]
    for start in range(0, len(images), BATCH):
        yield normalise(images[start : start + BATCH], data.mean, data.std)


def leave(
    job: Job, graph: Graph, ranges: Ranges, integers: IntGraph, *, fused: bool
) -> dict[str, Any]:
    """Write the integer graph and a row per layer; returns the reference accuracy."""
    save(integers, job.work)
    rows = summarise(graph, ranges, integers, job.config.quantizer, fused)
    (job.work / LAYERS).write_text(json.dumps(rows))
    test = job.services.images(job.config).test.first(job.config.evaluate.images)
    logits = split_logits(integers, test)
    if fused and logits.size <= MAX_LOGITS:  # simulate compares with them
        save_file({"logits": logits}, job.work / LOGITS)
    value = 100.0 * share_right(logits, test)
    return {"test_accuracy": round(value, 4), "n_test": len(test), "nodes": len(integers.nodes)}
