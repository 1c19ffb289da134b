"""gpw as a library: the steps of the pipeline as functions on PyTorch modules.

    import gpw_cli as gpw

    result = gpw.prune(model, images, sparsity=0.7)       # model: a traceable nn.Module
    gpw.finetune(model, result.masks, data, epochs=10)
    graph = gpw.quantize(model, images)
    compiled = gpw.compile(graph, target="vta")
    gpw.cycles(compiled).cycles, gpw.simulate(compiled, graph, images)

Nothing is stored, downloaded or cached. Options have the names and values of the command line, as
``gpw config`` shows them. Settings without a parameter are given as overrides, such as
``overrides=["pruning.keep_shift=true"]``. Errors are those of ``gpw_cli.errors``; all errors caused
by bad input are UsageErrors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from gpw_cli.api_checks import (
    logits_of,
    require_compiled,
    require_data,
    require_device,
    require_images,
    require_labels,
    require_masks,
    require_overrides,
)
from gpw_cli.api_pruning import products_of, within_budget
from gpw_cli.config.compose import compose
from gpw_cli.data.images import Images as Images
from gpw_cli.data.images import normalise as normalise
from gpw_cli.data.registry import load_images as load_images
from gpw_cli.errors import UsageError
from gpw_cli.graph.integer import IntGraph as IntGraph
from gpw_cli.graph.trace import trace
from gpw_cli.pruning.candidates import prunable_layers
from gpw_cli.pruning.groups import Scheme
from gpw_cli.pruning.masks import PruneResult as PruneResult
from gpw_cli.pruning.masks import apply_masks, prune_masks
from gpw_cli.pruning.norms import shift_masks
from gpw_cli.quantization.quantize import prepare, quantize_graph
from gpw_cli.quantization.ranges import calibrate
from gpw_cli.quantization.reference import quantize_input
from gpw_cli.quantization.reference import run as run_reference
from gpw_cli.stages.inputs import pruning_tile
from gpw_cli.targets.base import Compiled as Compiled
from gpw_cli.targets.base import Simulates
from gpw_cli.targets.base import Timing as Timing
from gpw_cli.targets.registry import npu_of
from gpw_cli.training.loop import EpochRecord as EpochRecord
from gpw_cli.training.loop import FitOptions, fit

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


def prune(
    model: nn.Module,
    images: Tensor,
    *,
    scheme: str = "gpw",
    sparsity: float | str | None = None,
    budget: int = 0,
    scope: str | None = None,
    criterion: str = "l1",
    labels: Tensor | None = None,
    target: str = "vta",
    overrides: Sequence[str] = (),
) -> PruneResult:
    """Choose groups of weights and set them to zero in ``model``, in place.

    images: normalised float32 [N, C, H, W]. The network is traced for their shape; their values are
    used with a budget (calibration) and by gradient criteria, which also need ``labels`` int64 [N].
    sparsity: share of the groups to remove (None: 0.5), spread over the layers as ``scope`` says
    (None: ``layer``).
    budget: cycles on ``target``, instead of a sparsity and a scope.
    overrides: settings of ``pruning`` and ``target``, with a budget also of ``quantizer``.
    Returns the masks (parameter name -> bool, True: kept) and exact counts.

    Raises UsageError for arguments that do not fit, a budget together with a sparsity or another
    scope, a budget that cannot be met, scheme ``dense``, and a model without prunable layers;
    UnsupportedError for a model that cannot be traced.
    """
    within = budget or any("budget" in override for override in overrides)
    require_overrides(overrides, "pruning", "target", *(["quantizer"] if within else []))
    require_images(images)
    classes = logits_of(model, images).shape[1]
    options = [f"scheme={scheme}", f"criterion={criterion}", f"target={target}"]
    config = compose([*options, *_limits(budget, sparsity, scope), *overrides])
    if config.pruning.scheme is Scheme.dense:
        raise UsageError("scheme=dense prunes nothing: leave prune out, or use scheme=gpw")
    if labels is not None:
        require_labels(labels, images, classes)
    names = prunable_layers(model, config.pruning.include_first, config.pruning.include_last)
    products = products_of(model, names, images, labels, config.pruning.criterion)
    if budget:
        result = within_budget(model, images, names, products, config)
    else:
        result = prune_masks(
            dict(model.named_parameters()),
            names,
            scheme=config.pruning.scheme,
            sparsity=config.pruning.exact_sparsity,
            scope=config.pruning.scope,
            criterion=config.pruning.criterion,
            tile=pruning_tile(config),
            rounding=config.pruning.rounding,
            products=products,
        )
    if not config.pruning.keep_shift:
        shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
        result.masks.update(shift_masks(model, result.masks, shape))
    apply_masks(model, result.masks)
    return result


def _limits(budget: int, sparsity: float | str | None, scope: str | None) -> list[str]:
    """Overrides for how much goes, and where; UsageError for a budget and a sparsity."""
    if budget and sparsity is not None:
        raise UsageError(f"budget={budget} and sparsity={sparsity}: give one of them")
    given = {"sparsity": sparsity, "scope": scope}
    found = [f"{name}={value}" for name, value in given.items() if value is not None]
    if budget:
        found += [*(["scope=cycles"] if scope is None else []), f"pruning.budget={budget}"]
    return found


def finetune(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    data: Images,
    *,
    recipe: str = "restart",
    epochs: int = 10,
    seed: int = 0,
    device: str = "cpu",
    overrides: Sequence[str] = (),
) -> list[EpochRecord]:
    """Train ``model`` in place under fixed ``masks``; returns one record per epoch.

    masks: parameter name -> bool of its shape, True: kept, as in ``PruneResult.masks``; {}: none.
    data: uint8 images, labels and their normalisation, for example from ``load_images``.
    recipe: an option of ``conf/train``. seed: of the order and augmentation of the images.
    overrides: settings of ``finetune.train``, such as ``finetune.train.lr=0.01``.

    Raises UsageError for masks of another model, data that do not fit, an unknown recipe and a
    device that is not there; DivergedError when the loss is not finite.
    """
    require_overrides(overrides, "finetune.train")
    require_data(model, data)
    require_masks(model, masks)
    options = [f"finetune.train={recipe}", f"finetune.train.epochs={epochs}", *overrides]
    train = compose(options).finetune.train
    where = FitOptions("finetune", seed, require_device(device))
    return fit(model, data, train, where, masks=dict(masks))


def quantize(
    model: nn.Module,
    images: Tensor,
    *,
    quantizer: str = "best",
    bits: int = 8,
    fused: bool = True,
    overrides: Sequence[str] = (),
) -> IntGraph:
    """The integer network, calibrated on normalised ``images`` float32 [N, C, H, W].

    ``model`` is not changed, and is taken in evaluation mode. bits: of weights and activations.
    fused: rounding after an addition or ReLU, not before. overrides: settings of ``quantizer``.

    Raises UsageError for arguments that do not fit, and UnsupportedError for operators that the
    graph cannot express, all of them at once.
    """
    require_overrides(overrides, "quantizer")
    require_images(images)
    logits_of(model, images)
    cfg = compose([f"quantizer={quantizer}", f"bits={bits}", *overrides]).quantizer
    shape = (int(images.shape[1]), int(images.shape[2]), int(images.shape[3]))
    graph = prepare(trace(model, shape), cfg)
    return quantize_graph(graph, calibrate(graph, [images], cfg), cfg, fused=fused)


def compile(graph: IntGraph, target: str = "vta", overrides: Sequence[str] = ()) -> Compiled:
    """Compile the network for an NPU, an option of ``conf/target``.

    overrides: settings of ``target``. Raises UsageError for what ``quantize`` did not make and for
    an unknown target, and UnsupportedError for operators that the NPU does not support.
    """
    require_overrides(overrides, "target")
    if not isinstance(graph, IntGraph):
        raise UsageError(f"compile takes what quantize returns, not a {type(graph).__name__}")
    return npu_of(compose([f"target={target}", *overrides]).target).compile(graph)


def cycles(compiled: Compiled) -> Timing:
    """Cycles, milliseconds, lower bound and DRAM bytes of one image, in total and by layer."""
    require_compiled(compiled)
    return compiled.time()


def simulate(
    compiled: Compiled, graph: IntGraph, images: Tensor | NDArray[np.float32]
) -> NDArray[np.int32]:
    """Logits int32 [N, classes] for normalised ``images`` float32 [N, C, H, W].

    graph: what was compiled; its scales quantize the images. The logits come from the compiled
    program if the NPU has a functional simulator (on VTA equal to the reference, on EIE in its own
    arithmetic), else from the integer reference executor.

    Raises UsageError for images of another shape or that are not finite, and ProgramError for a
    program that breaks a rule of the hardware.
    """
    require_compiled(compiled)
    if not isinstance(graph, IntGraph):
        raise UsageError(f"graph is a {type(graph).__name__}: give the one that was compiled")
    shape, given = tuple(graph.input.shape), tuple(images.shape)
    if given[1:] != shape or not bool(torch.isfinite(torch.as_tensor(images)).all()):
        raise UsageError(f"images are {list(given)}: expected finite [N, {str(list(shape))[1:]}")
    x = quantize_input(graph, images)
    if isinstance(compiled, Simulates):
        return np.asarray(compiled.simulator()(x), np.int32)
    return run_reference(graph, x)


def load_results(folder: str | Path) -> pd.DataFrame:
    """The results of a sweep folder, one row per point: as results.csv, but not rounded.

    Accuracies are in percent, DRAM traffic in bytes. Raises UsageError if the folder is no sweep.
    """
    from gpw_cli.report.load import load_sweep

    return load_sweep(Path(folder)).frame
