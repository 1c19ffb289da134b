"""Trained weights of torchvision by name, kept beside the store.

path = weights_path(Path(".gpw"), "resnet18", "IMAGENET1K_V1")
require_weights(path, "resnet18", "IMAGENET1K_V1")       # downloads them if they are missing
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from gpw_cli.errors import UsageError
from gpw_cli.models.inputs import TORCHVISION

_NAME = re.compile(r"[A-Z][A-Z0-9_]*_V\d+")


def is_named(source: str) -> bool:
    """Whether ``pretrain.source`` looks like a torchvision name such as IMAGENET1K_V1."""
    return _NAME.fullmatch(source) is not None


def weights_path(root: Path, model: str, source: str) -> Path:
    """The path of the file, downloaded or not; UsageError if torchvision has no such network."""
    if model not in TORCHVISION:
        raise UsageError(
            f"pretrain.source={source}: names weights of torchvision, which has no {model}; "
            "choose one of its networks, as in model=resnet18"
        )
    return root / "weights" / f"{model}-{source}.pth"


def require_weights(path: Path, model: str, source: str, download: bool = True) -> bool:
    """Download the weights unless the file exists, and say so; returns whether the file is there.

    Without ``download`` only the name is checked. Raises UsageError for unknown weights, listing
    the known ones, and without network access, saying which file to put where.
    """
    if path.is_file():
        return True
    import torch

    from gpw_cli.models.vision import import_torchvision

    known = import_torchvision().models.get_model_weights(model)
    if source not in known.__members__:
        names = ", ".join(filter(is_named, known.__members__)) or "none"
        raise UsageError(f"pretrain.source={source}: torchvision has for {model}: {names}")
    if not download:
        return False
    url = str(known[source].url)
    print(f"{model}: downloads {url} to {path}", file=sys.stderr)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(partial), _hash(url), progress=False)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; RuntimeError: a wrong hash
        partial.unlink(missing_ok=True)
        reason = str(getattr(error, "reason", error)).splitlines()[0]
        raise UsageError(
            f"pretrain.source={source}: cannot download ({reason}); put {url.rsplit('/', 1)[-1]} "
            f"from {url} at {path}"
        ) from error
    return True


def _hash(url: str) -> str | None:
    """The prefix of the sha256 at the end of the file name."""
    found = re.search(r"-([a-f0-9]{8,})\.", url)
    return found[1] if found else None
