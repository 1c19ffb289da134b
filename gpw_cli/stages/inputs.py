"""The inputs of each stage's key: its part of the configuration, without ``runtime``.

Imports no torch, so that the keys of a sweep take milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gpw_cli.config.compose import to_plain
from gpw_cli.config.schema import Config, DistillConfig, ModelConfig, PruningConfig
from gpw_cli.data.catalog import native_shape
from gpw_cli.data.identity import data_identity
from gpw_cli.errors import CheckpointError, UsageError
from gpw_cli.models.inputs import model_input
from gpw_cli.models.onnx_file import is_onnx, onnx_identity
from gpw_cli.models.own import is_own, own_identity
from gpw_cli.models.torchvision_weights import is_named, weights_path
from gpw_cli.models.weight_files import bundled_names, bundled_weights, require_regular
from gpw_cli.pruning.allocation import Scope
from gpw_cli.pruning.groups import Scheme
from gpw_cli.store.files import Stamp, stamp
from gpw_cli.store.store import checksum
from gpw_cli.targets.registry import family_origin, npu_of

NAMED_SOURCES = ("auto", "bundled", "scratch")
TEACHERS = "none, dense, a network with shipped weights, or the path of a checkpoint file"
SOURCES = (
    f"{', '.join(NAMED_SOURCES)}, a name of torchvision's (IMAGENET1K_V1), or the path of a "
    "checkpoint file"
)


def image_shape(config: Config) -> tuple[int, int]:
    """(channels, size in pixels) of the images, from the data group, else from the network."""
    if is_own(config.model.name):  # code has no fixed input
        channels, size = native_shape(config.data.name)
    else:
        channels, size = model_input(config.model.name)
    return config.data.channels or channels, config.data.size or size


def pretrain(config: Config) -> Mapping[str, Any]:
    """Network, data set, and either recipe and seed or the checksum of given weights."""
    channels, size = image_shape(config)
    root = Path(config.data.root) if config.data.root else None
    data = data_identity(config.data.name, root, size, channels)
    if config.data.validation:
        data["validation"] = config.data.validation
    seen = evaluated(config) if not trains(config) else {}
    return {"model": model_identity(config), "data": data, **_source(config), **seen}


def trains(config: Config) -> bool:
    """Whether the network is trained, before or after pruning."""
    own = config.finetune
    later = config.pruning.scheme is not Scheme.dense or own.quantized or own.shared.bits > 0
    return later or weights_file(config) is None


def evaluated(config: Config) -> dict[str, Any]:
    """The number of test images, if it is not all: keys from before it could be set stay valid."""
    return {"images": config.evaluate.images} if config.evaluate.images else {}


def model_identity(config: Config) -> dict[str, Any]:
    """The network; the user's own network by the content of its file, without its path."""
    plain = _without(config.model, ModelConfig, "widths", "args")
    if is_own(config.model.name):
        return {**plain, "name": own_identity(config.model.name)}
    if is_onnx(config.model.name):
        return {**plain, "name": onnx_identity(config.model.name)}
    return plain


def _without(value: Any, kind: type[Any], *later: str) -> dict[str, Any]:
    """``value`` as plain data, without the settings of ``later`` that have their default.

    Settings that were added later are left out at their default, so that older keys stay valid.
    """
    plain: dict[str, Any] = to_plain(value)
    usual: dict[str, Any] = to_plain(kind())
    return {k: v for k, v in plain.items() if k not in later or v != usual[k]}


def _source(config: Config) -> Mapping[str, Any]:
    file = weights_file(config)
    if is_named(config.pretrain.source):
        return {"weights": f"torchvision {config.pretrain.source}"}
    if file is None:
        distill = distillation(config, config.pretrain.distill)
        return {"train": to_plain(config.pretrain.train), "seed": config.seed, **distill}
    return {"weights": _file_checksum(file, f"pretrain.source={config.pretrain.source}", SOURCES)}


def _file_checksum(file: Path, what: str, expected: str) -> str:
    try:
        require_regular(file, what)
        return _checksum(file, stamp(file))
    except CheckpointError as error:
        raise CheckpointError(f"{error}; expected {expected}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CheckpointError(f"{what}: {reason}; expected {expected}") from None


@cache
def _checksum(file: Path, state: Stamp) -> str:
    return checksum(file)


def weights_file(config: Config) -> Path | None:
    """The file of the pre-trained weights; None: train from scratch."""
    source = config.pretrain.source
    if source == "scratch":
        return None
    if source == "auto" and config.data.validation:
        return None  # the shipped weights were trained on the held-out images
    if is_named(source):
        return weights_path(Path(config.runtime.root), config.model.name, source)
    if source in ("auto", "bundled"):
        own = config.model
        shipped = None
        if source == "auto" and is_onnx(own.name):
            return Path(own.name)
        if not own.widths and not is_own(own.name):
            shipped = bundled_weights(own.name, own.shortcut, config.data.name)
        if shipped is None and source == "bundled":
            raise UsageError(
                f"pretrain.source=bundled: no weights are shipped for {config.model.name} on "
                f"{config.data.name} (shipped: {', '.join(bundled_names()) or 'none'}); "
                "use pretrain.source=scratch"
            )
        return shipped
    if is_onnx(source) and Path(source).resolve() != Path(config.model.name).resolve():
        raise UsageError(
            f"pretrain.source={source}: an ONNX file is a network with its weights; write "
            f"model={source}"
        )
    return Path(source)


def pruning_tile(config: Config) -> tuple[int, int]:
    """(B_out, B_in) in weights, from the pruning group, else the GEMM tile of the target."""
    tile_out, tile_in = npu_of(config.target).tile
    return config.pruning.tile_out or tile_out, config.pruning.tile_in or tile_in


def prune(config: Config) -> Mapping[str, Any]:
    """The pruning group with its tile resolved; a budget replaces the sparsity."""
    tile_out, tile_in = pruning_tile(config)
    pruning = config.pruning
    scoped = ("budget", "budget_ms", "branches", "gradient_batches", "margin")
    plain = _without(pruning, PruningConfig, "rounding", "permute", *scoped)
    del plain["reserve"]  # only of scope cycles, below
    plain |= {"tile_out": tile_out, "tile_in": tile_in}
    plugged = {"scheme": pruning.scheme.origin, "criterion": pruning.criterion.origin}
    if any(plugged.values()):
        plain["plugins"] = {name: origin for name, origin in plugged.items() if origin}
    if pruning.keep_shift:  # the behaviour from before the setting existed
        del plain["keep_shift"]
    if pruning.scope is Scope.cycles:  # the mask depends on the cycles of the target
        del plain["sparsity"]
        plain |= {
            "margin": pruning.margin,
            "target": npu_identity(config),
            "quantizer": {**quantizer(config), **fuse(config)},
            **({"reserve": True} if pruning.reserve else {}),  # false: from before the setting
        }
    return plain


def finetune(config: Config) -> Mapping[str, Any]:
    """The recipe, the seed, and further settings of fine-tuning."""
    own = config.finetune
    rewound: dict[str, Any] = {"train": to_plain(own.train)}
    if own.rewind:
        rewound = {"rewind": own.rewind, "train": to_plain(config.pretrain.train)}
    if own.quantized:
        rewound["quantizer"] = {**quantizer(config), **fuse(config)}
    gradual = {"gradual": to_plain(own.gradual)} if own.gradual.steps else {}
    shared = {}
    if own.shared.bits:  # weights are equalised before they are shared
        shared = {"shared": {**to_plain(own.shared), "equalise": config.quantizer.equalise}}
    distilled = distillation(config, own.distill)
    return {**rewound, "seed": config.seed, **gradual, **shared, **distilled}


def distillation(config: Config, distill: DistillConfig) -> Mapping[str, Any]:
    """Teacher (by the content of its file), temperature and weight; empty without a teacher."""
    if distill.teacher == "none":
        return {}
    teacher: Any = "dense"
    if distill.teacher != "dense":
        name, file = teacher_file(config, distill)
        teacher = {
            "model": name,
            "weights": _file_checksum(file, f"distill.teacher={distill.teacher}", TEACHERS),
        }
    plain = {"temperature": distill.temperature, "weight": distill.weight}
    return {"distill": {"teacher": teacher, **plain}}


def teacher_file(config: Config, distill: DistillConfig) -> tuple[str, Path]:
    """(network, weights file) of ``distill.teacher``: shipped weights, or a file."""
    name = distill.teacher
    shipped = bundled_weights(name, config.model.shortcut, config.data.name)
    if shipped is not None:
        return name, shipped
    return distill.model or config.model.name, Path(name)


def quantize(config: Config) -> Mapping[str, Any]:
    """The quantizer, and how many images are evaluated, from here on to the last stage."""
    return {**quantizer(config), **evaluated(config)}


def quantizer(config: Config) -> Mapping[str, Any]:
    """The quantizer without its name, so that presets with equal settings are the same."""
    plain: dict[str, Any] = to_plain(config.quantizer)
    del plain["name"], plain["fusion"], plain["headroom"]
    if not config.quantizer.multiplier_bits:
        del plain["multiplier_bits"]
    return plain


def fuse(config: Config) -> Mapping[str, Any]:
    """The fusion, and the headroom if there is any."""
    headroom = config.quantizer.headroom
    fused = {"fusion": config.quantizer.fusion.value}
    return {**fused, "headroom": headroom} if headroom else fused


def simulate(config: Config) -> Mapping[str, Any]:
    """The NPU, and the number of simulated images."""
    return {**npu_identity(config), "images": config.simulate.images}


def npu_identity(config: Config) -> Mapping[str, Any]:
    """Identity and family of the NPU. The family is left out for VTA, the first one, so that keys
    from before there were families stay valid.
    """
    family = {} if config.target.family == "vta" else {"family": config.target.family}
    if origin := family_origin(config.target.family):
        family["plugin"] = origin
    return {**family, **npu_of(config.target).identity()}
