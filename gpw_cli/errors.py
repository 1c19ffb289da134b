"""All errors that a user can see, with their exit codes (mapped in ``cli/main.py``).

    GpwError                    1  a stage or a point failed
      DivergedError             1  the training loss is not finite
      StoreError                1  the store cannot be read or written
      UsageError                2  bad input: names the value, what is allowed, the next command
        CheckpointError         2  a checkpoint that cannot be used
        DataError               2  images that are absent, damaged or of the wrong size
        UnsupportedError        2  a network or geometry that the target cannot run
        ProgramError            2  an NPU program that is truncated or breaks a hardware rule

A message is one line: the value, what is allowed, and what to do next.
"""

from __future__ import annotations


class GpwError(Exception):
    """Base class; ``exit_code``: of the process."""

    exit_code = 1


class DivergedError(GpwError):
    """The loss became NaN or infinite."""

    def __init__(self, stage: str, epoch: int, lr: float) -> None:
        super().__init__(
            f"{stage}: the loss is not finite in epoch {epoch} (learning rate {lr:.4g}); "
            f"nothing was stored for it. Try a smaller rate: {stage}.train.lr={lr / 3:.2g}"
        )


class StoreError(GpwError):
    """The artifact store is read-only, full or otherwise unusable."""


class UsageError(GpwError):
    """Bad input from the command line, a configuration or a file."""

    exit_code = 2


class CheckpointError(UsageError):
    """A checkpoint that is unreadable, truncated, of another network, or holds pickled code."""


class DataError(UsageError):
    """A data set that is absent, damaged or of the wrong size."""


class UnsupportedError(UsageError):
    """An operator or geometry that the target cannot run."""


class ProgramError(UsageError):
    """A program that is truncated or breaks a rule of the hardware; names the instruction."""
