"""torchvision's download of CIFAR-10 as a command: ``python -m <this module> FOLDER``.

Creates FOLDER/cifar-10-batches-py and exits with 0, or prints the reason and exits with 1.
"""

from __future__ import annotations

import socket
import sys

from gpw_cli.models.vision import import_torchvision

CONNECT_SECONDS = 10.0


def main(folder: str) -> int:
    """Download, check and unpack into ``folder``; returns the exit status."""
    socket.setdefaulttimeout(CONNECT_SECONDS)
    torchvision = import_torchvision()
    try:
        torchvision.datasets.CIFAR10(folder, download=True)
    except (OSError, RuntimeError, EOFError) as error:
        print(getattr(error, "reason", error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
