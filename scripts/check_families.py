"""Compile and simulate one network of each torchvision family for VTA.

    python scripts/check_families.py                     # all of them, and the table for `gpw ls`
    python scripts/check_families.py squeezenet mnasnet  # only these; other rows stay

Weights and batch-norm statistics are random, the two images are noise. A family passes if all
logits of the program equal those of the integer reference executor. Exit code 1 if any differs.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import nn

from gpw_cli.config.compose import compose
from gpw_cli.config.schema import Config
from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.integer import IntGraph
from gpw_cli.models.families import FAMILIES, CheckedFamily, load_checked, save_checked
from gpw_cli.quantization.reference import quantize_input, run
from gpw_cli.stages.families import CLASSES, operators
from gpw_cli.stages.untrained import integers_untrained, untrained_network
from gpw_cli.targets.registry import npu_of


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("families", nargs="*", help=f"of {', '.join(FAMILIES)}; default: all")
    wanted = parser.parse_args().families or list(FAMILIES)
    print(f"{'family':16} {'network':20} {'compiles':8} {'exact':5} "
          f"{'instructions':>12} {'cycles':>12} {'s':>6}")  # fmt: skip
    rows = []
    for family in wanted:
        rows.append(checked(family))
        save_checked(load_checked() | {family: rows[-1]})
    print(f"{sum(row.exact for row in rows)} of {len(rows)} families compile and are bit-exact")
    raise SystemExit(any(row.compiles and not row.exact for row in rows))


def checked(family: str) -> CheckedFamily:
    """One family, printed as a row."""
    _, network, pixels = FAMILIES[family]
    config = compose([f"model={network}", f"data.size={pixels}"])
    began = time.perf_counter()
    row = CheckedFamily(family, network, pixels, "", False, 0, 0, 0.0)
    try:
        model = shaken(untrained_network(config, CLASSES))
        row = ran(row, integers_untrained(config, model), config)
    except UnsupportedError as error:
        row = CheckedFamily(family, network, pixels, operators(str(error)), False, 0, 0, 0.0)
    seconds = round(time.perf_counter() - began, 1)
    row = CheckedFamily(**{**vars(row), "seconds": seconds})
    print(f"{family:16} {network:20} {'yes' if row.compiles else 'no':8} "
          f"{'yes' if row.exact else '-':5} {row.instructions:12,} {row.cycles:12,} "
          f"{row.seconds:6.1f}  {row.refused}", flush=True)  # fmt: skip
    return row


def shaken(model: nn.Module) -> nn.Module:
    """``model`` with batch-norm statistics and parameters away from 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.running_mean.normal_(0, 0.3, generator=generator)
                norm.running_var.uniform_(0.5, 2.0, generator=generator)
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.normal_(0, 0.2, generator=generator)
    return model


def ran(row: CheckedFamily, graph: IntGraph, config: Config) -> CheckedFamily:
    """``row`` with the results of the program."""
    compiled = npu_of(config.target).compile(graph)
    shape = (2, *graph.input.shape)
    images = quantize_input(graph, torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    exact = np.array_equal(compiled.simulator()(images), run(graph, images))
    found = {"instructions": compiled.facts["instructions"], "cycles": compiled.time().cycles}
    return CheckedFamily(**{**vars(row), "exact": bool(exact), **found})


if __name__ == "__main__":
    main()
