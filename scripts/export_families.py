"""Programs of MobileNet-V2 and DenseNet-121 for a run on the hardware, whole and small.

    python scripts/export_families.py                         # the small ones, results/programs
    python scripts/export_families.py mobilenet_v2 densenet121 --out programs

Weights and batch-norm statistics are random (seed 0), the image is noise. Depthwise convolutions,
ReLU6, concatenations and batch norms before convolutions occur in the small networks as in the
whole ones. A program is written only if its logits equal those of the integer reference.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from check_families import shaken

from gpw_cli.config.compose import compose
from gpw_cli.quantization.reference import quantize_input, run
from gpw_cli.stages.untrained import integers_untrained, untrained_network
from gpw_cli.targets.base import Exports
from gpw_cli.targets.registry import npu_of

ROOT = Path(__file__).resolve().parent.parent
DENSE = "{growth_rate: 8, block_config: [6, 12, 24, 16], num_init_features: 16}"
#: name -> settings of the network, pixels, classes
NETWORKS: dict[str, tuple[tuple[str, ...], int, int]] = {
    "mobilenet_v2_small": (
        ("model=torchvision.models:mobilenet_v2", "model.args={width_mult: 0.25}"),
        *(32, 10),
    ),
    "densenet121_small": (
        ("model=torchvision.models.densenet:DenseNet", f"model.args={DENSE}"),
        *(32, 10),
    ),
    "mobilenet_v2": (("model=mobilenet_v2",), 64, 1000),
    "densenet121": (("model=densenet121",), 64, 1000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    small = [name for name in NETWORKS if name.endswith("_small")]
    parser.add_argument("names", nargs="*", default=small, metavar=f"{{{','.join(NETWORKS)}}}")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "programs")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(NETWORKS):
        parser.error(f"no network {', '.join(unknown)}; allowed: {', '.join(NETWORKS)}")
    for name in chosen.names:
        print(exported(name, chosen.out / name), flush=True)


def exported(name: str, folder: Path) -> str:
    """Write the program of a network; a line that describes it."""
    model, pixels, classes = NETWORKS[name]
    config = compose([*model, f"data.size={pixels}"])
    graph = integers_untrained(config, shaken(untrained_network(config, classes)))
    compiled = npu_of(config.target).compile(graph)
    noise = torch.randn((2, *graph.input.shape), generator=torch.Generator().manual_seed(1))
    images = quantize_input(graph, noise)
    assert np.array_equal(compiled.simulator()(images), run(graph, images)), name
    assert isinstance(compiled, Exports)
    compiled.export(images[0], folder)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    count, cycles = compiled.facts["instructions"], compiled.time().cycles
    return f"{name}: {count:,} instructions, {cycles:,} cycles, {size:.2f} MB in {folder.name}/"


if __name__ == "__main__":
    main()
