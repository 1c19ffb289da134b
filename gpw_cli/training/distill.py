"""Knowledge distillation (Hinton et al. 2015) with cached teacher logits.

    teacher = Teacher(model, temperature=4.0, weight=0.9, cache=folder)
    loss = teacher.loss(out, hard, step, x)

    loss = (1 - weight) * cross entropy + weight * temperature^2 * KL(teacher || network)

The teacher's logits for a batch depend on the run's random stream, not on the network in training.
The logits of each epoch are therefore stored in ``cache`` and read by every network that is trained
with the same seed, recipe and teacher.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F


class Teacher:
    """A trained network in inference; ``cache``: a folder for its logits, one file per epoch.

    ``autocast``: run it in bf16, as the network in training. The caller must use another folder for
    other images or another teacher (stages/train.py).
    """

    def __init__(
        self,
        model: nn.Module,
        temperature: float,
        weight: float,
        device: torch.device,
        *,
        autocast: bool = False,
        cache: Path | None = None,
    ) -> None:
        self.model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.temperature, self.weight, self.autocast = temperature, weight, autocast
        self.cache, self.file = cache, Path()
        self.known: Tensor | None = None
        self.said: list[Tensor] = []

    def begin(self, epoch: int, steps: int) -> None:
        """Call before the first of ``steps`` batches of an epoch."""
        self.known, self.said = None, []
        if self.cache is None:
            return
        self.file = self.cache / f"epoch-{epoch}.safetensors"
        try:
            logits = load_file(self.file)["logits"]
        except (OSError, SafetensorError, KeyError):
            return
        if len(logits) == steps:
            self.known = logits

    def end(self) -> None:
        """Call after the last batch of an epoch; writes the logits to the cache."""
        if self.cache is None or self.known is not None:
            return
        self.cache.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(f".{os.getpid()}.tmp")
        save_file({"logits": torch.stack(self.said)}, partial)
        os.replace(partial, self.file)

    def loss(self, out: Tensor, hard: Tensor, step: int, x: Tensor) -> Tensor:
        """The distillation loss of logits ``out`` float32 [B, classes] for images ``x``.

        ``hard``: their cross entropy.
        """
        target = F.log_softmax(self._logits(step, x) / self.temperature, 1)
        mine = F.log_softmax(out / self.temperature, 1)
        soft = F.kl_div(mine, target, log_target=True, reduction="batchmean")
        return (1 - self.weight) * hard + self.weight * self.temperature**2 * soft

    def _logits(self, step: int, x: Tensor) -> Tensor:
        if self.known is not None:
            return torch.select(self.known, 0, step).to(x.device)
        with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            logits: Tensor = self.model(x).float()
        self.said.append(logits.cpu())
        return logits
