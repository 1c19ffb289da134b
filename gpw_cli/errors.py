"""Every error a user can meet, and the exit code each maps to (in ``cli.main``).

    GpwError                    1  a stage failed
      DivergedError             1  the training loss is not finite
"""

from __future__ import annotations


class GpwError(Exception):
    """Base of all; ``exit_code`` is what the process returns."""

    exit_code = 1


class DivergedError(GpwError):
    """The loss became NaN or infinite."""

    def __init__(self, stage: str, epoch: int, lr: float) -> None:
        super().__init__(
            f"{stage}: the loss is not finite in epoch {epoch} (learning rate {lr:.4g}); "
            f"nothing was stored for it. Try a smaller rate: {stage}.train.lr={lr / 3:.2g}"
        )
