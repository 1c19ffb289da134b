"""Random streams from (seed, stage, epoch).

A resumed run is bit-identical to an uninterrupted one without storing generator states.
"""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, stage: str, epoch: int) -> int:
    """A 63-bit seed; a change of any argument gives an unrelated stream."""
    digest = hashlib.sha256(f"{seed}/{stage}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, stage: str, epoch: int) -> torch.Generator:
    """A generator for one epoch of one stage; on the CPU, so that all devices draw the same."""
    return torch.Generator().manual_seed(derived_seed(seed, stage, epoch))
