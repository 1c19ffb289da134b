"""Every random number of a run comes from (seed, stage, epoch), so that a resumed run equals an
uninterrupted one bit for bit without storing generator states (research/runner.md, 2.2)."""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, stage: str, epoch: int) -> int:
    """A 63-bit seed from its three parts; any change of a part gives an unrelated stream."""
    digest = hashlib.sha256(f"{seed}/{stage}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, stage: str, epoch: int) -> torch.Generator:
    """A CPU generator for one epoch of one stage (drawn on the CPU: the same on every device)."""
    return torch.Generator().manual_seed(derived_seed(seed, stage, epoch))
