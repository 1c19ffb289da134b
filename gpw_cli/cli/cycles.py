"""``gpw cycles``: the speed of a network, dense and pruned, without data or training."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gpw_cli.cli.arguments import ConfigDir, Json, Overrides
from gpw_cli.cli.console import emit, fact

if TYPE_CHECKING:
    from gpw_cli.stages.estimate import Estimate


def cycles(
    overrides: Overrides = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Outputs of the network; default: the data set's.")
    ] = None,
    json: Json = False,
    config_dir: ConfigDir = None,
) -> None:
    """Cycles and DRAM bytes by layer, dense and pruned, without data or training.

    Weights are those of pretrain.source if it names any, else random. Ranges are calibrated on
    noise.
    """
    from gpw_cli.config.compose import compose
    from gpw_cli.stages.estimate import estimate

    found = estimate(compose(overrides or [], config_dir), classes)
    if json:
        emit(asdict(found) | {"speedup": found.speedup})
    else:
        print("\n".join(_lines(found)))


def _lines(found: Estimate) -> list[str]:
    """A row per layer, then the totals."""
    width = max(len("layer"), *(len(layer.name) for layer in found.layers))
    pruned = found.pruned is not None
    head = f"{'layer':{width}} {'cycles':>13} {'DRAM bytes':>13}"
    lines = [head + (f" {'pruned':>13} {'DRAM bytes':>13} {'faster':>7}" if pruned else "")]
    for layer in found.layers:
        text = f"{layer.name:{width}} {layer.cycles:13,} {layer.dram_bytes:13,}"
        if pruned:
            text += f" {layer.pruned_cycles:13,} {layer.pruned_dram_bytes:13,}"
            both = layer.cycles and layer.pruned_cycles
            text += f" {layer.cycles / layer.pruned_cycles:6.2f}x" if both else ""
        lines.append(text)
    own = "; ".join(fact(name, value) for name, value in found.facts.items())
    lines.append(f"{found.network}: {found.weights} weights; {found.target}: {own}")
    if found.dense_refused is not None:
        lines.append(f"dense: not on {found.target}: {found.dense_refused}")
    runs = [("dense", found.dense), (found.scheme, found.pruned)]
    for name, run in runs:
        if run is not None:
            lines.append(
                f"{name:{width}} {run.cycles:13,} cycles  {run.milliseconds:10.3f} ms at "
                f"{found.clock_mhz:g} MHz  {run.dram_bytes:13,} DRAM bytes"
            )
    if found.cut:
        lines.append(
            f"{found.scheme} cuts the network through: no path is left from the image to the "
            "logits, which are the same for every image"
        )
    if found.speedup is not None:
        lines.append(f"{found.speedup:.2f} times faster than dense")
    return lines
