"""gpw: prune, fine-tune, quantize, compile and time CNNs for a vector-engine NPU.

The functions of ``gpw_cli.api`` are also available here, as ``gpw_cli.prune`` and so on. They are
imported at first use, so that the command line starts without PyTorch.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing would delay the command line's signal handlers
if TYPE_CHECKING:
    from typing import Any

    from gpw_cli.api import (
        Compiled,
        EpochRecord,
        Images,
        IntGraph,
        PruneResult,
        Timing,
        compile,
        cycles,
        finetune,
        load_images,
        load_results,
        normalise,
        prune,
        quantize,
        simulate,
    )

__all__ = [
    "Compiled",
    "EpochRecord",
    "Images",
    "IntGraph",
    "PruneResult",
    "Timing",
    "compile",
    "cycles",
    "finetune",
    "load_images",
    "load_results",
    "normalise",
    "prune",
    "quantize",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import importlib

        return getattr(importlib.import_module("gpw_cli.api"), name)
    raise AttributeError(f"module 'gpw_cli' has no attribute {name!r}")
