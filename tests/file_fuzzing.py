"""Changed files: checkpoints, sweep.json, manifests, points and vta_config.json."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from fuzzing import Fault, mutated, mutated_json, repeated
from safetensors.torch import save_file
from synthetic_sweep import write_sweep
from vta_programs import vta_spec

from gpw_cli.errors import CheckpointError, GpwError
from gpw_cli.models.checkpoint import adapt_state, load_state
from gpw_cli.models.registry import build_model
from gpw_cli.report.load import load_sweep
from gpw_cli.store.gc import entries
from gpw_cli.store.records import referenced
from gpw_cli.store.store import MANIFEST, Store
from gpw_cli.targets.vta.isa.vta_json import config_of, spec_from_json

Fuzz = Callable[[Path, int, int], int]  # (folder, count, seed) -> how many were accepted


def one_line(error: GpwError) -> bool:
    """False: refused; raises Fault for a refusal of several lines."""
    if "\n" in str(error):
        raise Fault(f"more than one line: {error}")
    return False


def checkpoint(suffix: str) -> Fuzz:
    """Of a network with batch norms, as PyTorch or safetensors writes it."""

    def fuzz(folder: Path, count: int, seed: int) -> int:
        torch.manual_seed(0)
        model, file = build_model("digits_cnn", 10, 1, "A"), folder / f"x{suffix}"
        if suffix == ".pth":
            torch.save({"epoch": 3, "state_dict": model.state_dict()}, file)
        else:
            save_file(model.state_dict(), file)
        content = file.read_bytes()

        def check(changed: bytes) -> bool:
            file.write_bytes(changed)
            try:
                state = adapt_state(load_state(file), model)
            except CheckpointError as error:
                return one_line(error)
            assert all(torch.isfinite(tensor.float()).all() for tensor in state.values())
            variances = [tensor for key, tensor in state.items() if key.endswith("running_var")]
            assert all(bool((tensor >= 0).all()) for tensor in variances)
            return True

        return repeated(count, seed, lambda chosen: mutated(content, chosen), check)

    return fuzz


def sweep_json(folder: Path, count: int, seed: int) -> int:
    """Read by the report and by a cleaning."""
    write_sweep(folder / "s", sparsities=(0.5,))
    file = folder / "s" / "sweep.json"
    text = file.read_text()

    def check(changed: bytes) -> bool:
        file.write_bytes(changed)
        accepted = True
        for read in (lambda: load_sweep(folder / "s"), lambda: referenced([folder])):
            try:
                read()
            except GpwError as error:
                accepted = one_line(error)
        return accepted

    return repeated(count, seed, lambda chosen: mutated_json(text, chosen), check)


def points(folder: Path, count: int, seed: int) -> int:
    """Old records, without a checksum."""
    (first, *_) = write_sweep(folder / "s", sparsities=(0.5,), npu=True)
    file = folder / "s" / "points" / f"{first}.json"
    text = file.read_text()

    def check(changed: bytes) -> bool:
        file.write_bytes(changed)
        return first not in load_sweep(folder / "s").damaged

    return repeated(count, seed, lambda chosen: mutated_json(text, chosen), check)


def manifests(*, sealed: bool) -> Fuzz:
    """With their checksum every change is noticed; without, what stays has metrics and files."""

    def build(work: Path) -> dict[str, float]:
        (work / "payload.bin").write_bytes(b"weights")
        return {"test_accuracy": 90.0}

    def fuzz(folder: Path, count: int, seed: int) -> int:
        store = Store(folder)
        artifact = store.make("prune", "k", {"parent": None, "config": {"seed": 0}}, build)
        file = artifact.file(MANIFEST)
        text = file.read_text() if sealed else json.dumps(artifact.manifest)

        def check(changed: bytes) -> bool:
            file.write_bytes(changed)
            entries(folder)
            found = store.look("prune", "k")
            assert not (sealed and found.complete and changed.rstrip() != text.encode().rstrip())
            if found.complete:
                assert isinstance(found.manifest["metrics"], dict)
            return found.complete

        def change(chosen: random.Random) -> bytes:
            return mutated(text.encode(), chosen) if sealed else mutated_json(text, chosen)

        return repeated(count, seed, change, check)

    return fuzz


def vta_config(folder: Path, count: int, seed: int) -> int:
    """VTA's own JSON."""
    text, file = json.dumps(config_of(vta_spec())), folder / "vta_config.json"

    def check(changed: bytes) -> bool:
        file.write_bytes(changed)
        try:
            spec_from_json(file)
        except GpwError as error:
            return one_line(error)
        return True

    return repeated(count, seed, lambda chosen: mutated_json(text, chosen), check)


def flips(folder: Path, count: int, seed: int) -> Counter[str]:
    """How many of ``count`` flips of one bit in a file of an artifact were noticed, by file.

    Every other one is in the manifest. Raises Fault for one that is not noticed.
    """

    def build(work: Path) -> dict[str, float]:
        (work / "payload.bin").write_bytes(random.Random(seed).randbytes(5000))
        (work / "layers.json").write_text(json.dumps([{"name": "conv1", "cycles": 11890}]))
        return {"test_accuracy": 90.0}

    store, chosen = Store(folder), random.Random(seed)
    inputs = {"parent": "9c01", "config": {"model": {"name": "resnet20"}}}
    artifact = store.make("prune", "k", inputs, build)
    others = [artifact.file(name) for name in ("payload.bin", "layers.json")]
    found = Counter[str]()
    for number in range(count):
        file = chosen.choice(others) if number % 2 else artifact.file(MANIFEST)
        content = file.read_bytes()
        at, bit = chosen.randrange(len(content)), chosen.randrange(8)
        file.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
        if store.look("prune", "k", "9c01").damage is None:
            raise Fault(f"flip {seed}-{number}: bit {bit} of byte {at} of {file.name}")
        file.write_bytes(content)
        found[file.name] += 1
    assert store.look("prune", "k", "9c01").complete
    return found


FILES: dict[str, Fuzz] = {
    "pth": checkpoint(".pth"),
    "safetensors": checkpoint(".safetensors"),
    "sweep": sweep_json,
    "points": points,
    "manifests": manifests(sealed=True),
    "old manifests": manifests(sealed=False),
    "vta": vta_config,
}
