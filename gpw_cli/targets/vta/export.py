"""Writes a program to a folder, for a board or another simulator, and reads it back.

    export_program(program, image, "folder")
    exported = load_exported("folder")          # exported.program, .image, .expected

``insn.bin``: 16 bytes an instruction. ``dram.bin``: the DRAM image, with the input in it, addresses
from 0. ``expected.bin``: the DRAM image after the run. ``manifest.json``: the rest. A runtime that
loads ``dram.bin`` at a 4096-aligned base B adds B / element size to each ``dram_base``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.errors import ProgramError, UsageError
from gpw_cli.store.files import partial_of, write_folder
from gpw_cli.targets.vta.functional.simulator import Simulator, pack_input, unpack_input
from gpw_cli.targets.vta.isa.geometry import INSN_BYTES
from gpw_cli.targets.vta.isa.input_layout import PLAIN, InputLayout
from gpw_cli.targets.vta.isa.program import Bytes, LayerRange, Program, Region
from gpw_cli.targets.vta.isa.vta_json import config_of, spec_from_config

_FORMAT = "gpw-vta-program"
_VERSION = 1
_FILES = ("insn.bin", "dram.bin", "expected.bin", "manifest.json")


@dataclass(frozen=True, eq=False)
class Exported:
    """``image``: int8 [C, H, W]. ``expected``: uint8, the DRAM image after the run."""

    program: Program
    image: NDArray[np.int8]
    expected: Bytes


def export_program(program: Program, image: NDArray[np.int8], folder: str | Path) -> None:
    """Writes the four files for ``image`` int8 [C, H, W] into ``folder``.

    An earlier export there is replaced. Raises UsageError if the folder exists and holds anything
    else, ProgramError if the program breaks a rule of the hardware.
    """
    folder = Path(folder)
    _check_folder(folder)
    simulator = Simulator(program, 1)
    expected = simulator.final_dram(image)
    region = program.region(program.input)
    dram = program.dram.copy()
    packed = pack_input(program, image[None], 1).reshape(-1).view(np.uint8)
    dram[region.offset : region.offset + region.length] = packed
    manifest = _manifest(program, simulator.report.min_gemm_distance)
    contents = (
        program.insn,
        dram.tobytes(),
        expected.tobytes(),
        (json.dumps(manifest, indent=1) + "\n").encode(),
    )
    try:
        write_folder(folder, dict(zip(_FILES, contents, strict=True)))
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror or error}") from error


def load_exported(folder: str | Path) -> Exported:
    """Reads what ``export_program`` wrote.

    Raises UsageError if the folder holds no export, ProgramError if a file is truncated.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    if manifest is None:
        raise UsageError(
            f"{folder}: no exported program (write one: gpw simulate --export {folder})"
        )
    try:
        insn, dram, expected = ((folder / name).read_bytes() for name in _FILES[:3])
        program = _program(manifest, insn, dram)
    except (OSError, KeyError, TypeError) as error:
        raise ProgramError(f"{folder}: {type(error).__name__}: {error}") from error
    for name, have, want in (
        ("insn.bin", len(insn), manifest["instructions"] * INSN_BYTES),
        ("dram.bin", len(dram), manifest["dram_bytes"]),
        ("expected.bin", len(expected), manifest["dram_bytes"]),
    ):
        if have != want:
            raise ProgramError(f"{folder}/{name}: truncated, {have} of {want} bytes")
    region = program.region(program.input)
    held = program.dram[region.offset : region.offset + region.length]
    image = unpack_input(program, held.view(np.int8))
    held[:] = 0
    return Exported(program, image, np.frombuffer(expected, np.uint8))


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file, give a folder")
    left = set(_FILES[:-1]) | set(map(partial_of, _FILES))  # after a full disk
    others = folder.is_dir() and any(item.name not in left for item in folder.iterdir())
    if others and _read_manifest(folder) is None:
        raise UsageError(
            f"{folder}: exists and holds no exported program; give a new or empty folder"
        )


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest; None if the folder holds no export."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(manifest, dict) and manifest.get("format") == _FORMAT
    return manifest if ours and manifest.get("version") == _VERSION else None


def _manifest(program: Program, min_gemm_distance: int) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "vta": config_of(program.spec),
        "capabilities": {"mul": program.spec.mul, "acc_8bit": program.spec.acc_8bit},
        "instructions": program.length,
        "dram_bytes": len(program.dram),
        "regions": [asdict(region) for region in program.regions],
        "input": {"region": program.input, "shape": program.input_shape} | _layout(program),
        "output": {
            "region": program.output,
            "shape": program.output_shape,
            "bits": program.output_bits,
        },
        "layers": [asdict(layer) for layer in program.layers],
        "scales": dict(program.scales),
        "min_gemm_distance": min_gemm_distance,
    }


def _layout(program: Program) -> dict[str, Any]:
    """The layout that the host gives an image (isa/input_layout.py); empty for the plain image."""
    if program.input_layout == PLAIN:
        return {}
    return {"layout": asdict(program.input_layout)}


def _program(manifest: Mapping[str, Any], insn: bytes, dram: bytes) -> Program:
    source, target = manifest["input"], manifest["output"]
    return Program(
        spec=spec_from_config(manifest["vta"], **manifest["capabilities"]),
        insn=insn,
        dram=np.frombuffer(dram, np.uint8).copy(),
        regions=tuple(
            Region(**{**region, "shape": tuple(region["shape"])}) for region in manifest["regions"]
        ),
        input=source["region"],
        output=target["region"],
        input_shape=_shape(source["shape"]),
        output_shape=_shape(target["shape"]),
        output_bits=target["bits"],
        layers=tuple(LayerRange(**layer) for layer in manifest["layers"]),
        scales=manifest["scales"],
        min_gemm_distance=manifest["min_gemm_distance"],
        input_layout=InputLayout(**{k: tuple(v) for k, v in source.get("layout", {}).items()}),
    )


def _shape(values: list[int]) -> tuple[int, int, int]:
    channels, height, width = values
    return channels, height, width
