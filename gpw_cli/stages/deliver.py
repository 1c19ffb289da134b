"""Write the pruned network to a file: ``gpw export``.

    deliver(Path("net.onnx"), config, services, artifacts)

Masks are applied, dead nodes and channels removed. The suffix selects the format, an entry of
``FORMATS``; a name without suffix is a folder for the program of the target.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from gpw_cli.config.schema import Config
from gpw_cli.data.images import normalise
from gpw_cli.errors import UsageError
from gpw_cli.graph.compact import compact
from gpw_cli.graph.dead import remove_dead
from gpw_cli.graph.fold import fold
from gpw_cli.graph.integer_io import load
from gpw_cli.graph.ir import Graph
from gpw_cli.graph.module import GraphModule
from gpw_cli.graph.trace import trace
from gpw_cli.stages.network import load_network
from gpw_cli.stages.program import export_to
from gpw_cli.stages.services import Services
from gpw_cli.store.store import Artifact


@dataclass(frozen=True)
class FusedRun:
    """A finished run up to ``fuse``; ``images``: float32 [2, C, H, W] for tracing."""

    config: Config
    services: Services
    artifacts: Mapping[str, Artifact]
    images: Tensor

    def graph(self) -> Graph:
        """The float network without dead nodes and zero channels, with folded batch norms."""
        trained = self.artifacts.get("finetune", self.artifacts["pretrain"])
        model, _ = load_network(trained, self.config)
        images = self.services.images(self.config)
        return compact(remove_dead(fold(trace(model, images.shape, images.mean, images.std))))


def _torch_program(source: FusedRun, file: Path) -> None:
    module = GraphModule(source.graph()).eval()
    batch = {0: torch.export.Dim("batch", min=1)}
    exported = torch.export.export(module, (source.images,), dynamic_shapes=(batch,))
    with file.open("wb") as stream:
        torch.export.save(exported, stream)


def _weights(source: FusedRun, file: Path) -> None:
    state = GraphModule(source.graph()).state_dict()
    file.write_bytes(save({name: tensor.contiguous() for name, tensor in state.items()}))


def _onnx(source: FusedRun, file: Path) -> None:
    import onnx

    from gpw_cli.graph.onnx_out import float_model

    onnx.save(float_model(source.graph()), file)


def _onnx_int8(source: FusedRun, file: Path) -> None:
    import onnx

    from gpw_cli.graph.onnx_out import quantized_model

    onnx.save(quantized_model(load(source.artifacts["fuse"].path)), file)


# (suffix, int8) -> writer
FORMATS: Mapping[tuple[str, bool], Callable[[FusedRun, Path], None]] = {
    (".pt2", False): _torch_program,
    (".safetensors", False): _weights,
    (".onnx", False): _onnx,
    (".onnx", True): _onnx_int8,
}


def check_format(to: Path, int8: bool) -> None:
    """Raise UsageError for a name that has no known format or lies in no folder."""
    if to.suffix and not to.parent.is_dir():
        raise UsageError(f"--to {to}: no folder {to.parent}; make it first")
    if to.suffix and to.is_dir():
        raise UsageError(f"--to {to}: is a folder; give the name of a file")
    if (to.suffix and (to.suffix, int8) not in FORMATS) or to.name.startswith("."):
        known = ", ".join(suffix + (" with --int8" if q else "") for suffix, q in FORMATS)
        raise UsageError(
            f"--to {to}{' --int8' if int8 else ''}: expected a file that ends in {known}, or a "
            "folder without suffix for the target's program"
        )
    if not to.suffix and int8:
        raise UsageError(f"--to {to} --int8: a program is always int8; leave --int8 out")
    if to.suffix == ".onnx":
        _check_onnx()


def _check_onnx() -> None:
    import importlib.util

    if importlib.util.find_spec("onnx") is None:
        raise UsageError("writing ONNX needs the onnx package: pip install 'gpw[onnx]'")


def deliver(
    to: Path,
    config: Config,
    services: Services,
    artifacts: Mapping[str, Artifact],
    *,
    int8: bool = False,
) -> None:
    """Write ``to`` atomically. Raises UsageError if it cannot be written."""
    check_format(to, int8)
    if not to.suffix:
        export_to(to, config, services, artifacts)
        return
    images = services.images(config)
    two = normalise(images.test.images[:2], images.mean, images.std)
    partial = to.with_name(f".{to.stem}.partial{to.suffix}")
    try:
        FORMATS[to.suffix, int8](FusedRun(config, services, artifacts, two), partial)
        os.replace(partial, to)
    except OSError as error:
        raise UsageError(f"--to {to}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
