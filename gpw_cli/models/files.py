"""Check that a file can be read as weights. Imports no torch.

require_regular(Path("net.pt"))         # CheckpointError for a folder, a FIFO, /dev/zero, 1 TB
"""

from __future__ import annotations

import stat
from pathlib import Path

from gpw_cli.errors import CheckpointError

MAX_BYTES = 16 * 1024**3  # the largest known network, vit_h_14, has 2.5 GB


def require_regular(path: Path, name: str = "") -> None:
    """Raise CheckpointError unless ``path`` is a regular file of a plausible size.

    name: of the file in the message; default: the path.
    """
    what = name or str(path)
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{what}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(found.st_mode):
        raise CheckpointError(f"{what}: Is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{what}: is no regular file (a device, a pipe or a socket)")
    if found.st_size > MAX_BYTES:
        raise CheckpointError(
            f"{what}: {found.st_size:,} bytes, more than the {MAX_BYTES:,} of any network here"
        )
