"""Write the compiled program of a finished run, or a trace of its cycles."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gpw_cli.config.schema import Config
from gpw_cli.errors import UsageError
from gpw_cli.graph.integer_io import load
from gpw_cli.quantization.reference import quantize_images
from gpw_cli.stages.services import Services
from gpw_cli.store.store import Artifact
from gpw_cli.targets.base import Exports, Traces
from gpw_cli.targets.registry import npu_of


def check_offered(config: Config, *, export: bool, trace: bool, option: str = "--export") -> None:
    """Raise UsageError, before anything runs, for output that the target does not offer.

    ``option``: that of the exported program.
    """
    if export and not offers_program(config):
        raise _not_offered(option, config)
    if trace and not issubclass(npu_of(config.target).program, Traces):
        raise _not_offered("--trace", config)


def offers_program(config: Config) -> bool:
    """Whether the target has a program of instructions to export."""
    return issubclass(npu_of(config.target).program, Exports)


def _not_offered(option: str, config: Config) -> UsageError:
    return UsageError(
        f"{option}: target {config.target.name} has no program of instructions; "
        + ("name a file such as net.onnx" if option == "--to" else "leave the option out")
    )


def export_to(
    folder: Path, config: Config, services: Services, artifacts: Mapping[str, Artifact]
) -> None:
    """``gpw simulate --export``: write the program with the first test image.

    Raises UsageError if the folder cannot be written.
    """
    graph = load(artifacts["fuse"].path)
    first = services.images(config).test.images[:1]
    image = quantize_images(graph, first)[0]
    compiled = npu_of(config.target).compile(graph)
    if not isinstance(compiled, Exports):
        raise _not_offered("--export", config)
    compiled.export(image, folder)


def trace_to(file: Path, config: Config, artifacts: Mapping[str, Artifact]) -> None:
    """``gpw simulate --trace``; raises UsageError if the file cannot be written."""
    compiled = npu_of(config.target).compile(load(artifacts["fuse"].path))
    if not isinstance(compiled, Traces):
        raise _not_offered("--trace", config)
    partial = file.with_name(f".{file.name}.tmp")
    try:
        compiled.write_trace(partial)
        os.replace(partial, file)
    except OSError as error:
        raise UsageError(f"--trace {file}: {error.strerror or error}") from error
