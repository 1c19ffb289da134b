"""JSON files that carry a checksum of their own content in the last line but one.

    text = sealed({"metrics": {"test_accuracy": 90.0}})
    opened(text.encode())       # Opened({"metrics": ...}, sealed=True)

The checksum covers the text before it, so that a change of any byte is noticed. A file from before
there were seals has none and opens with ``sealed=False``; one that ends with anything like a
checksum is no such file, but a damaged one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAME = "sha256"
# Matched by its shape alone: a seal with a changed name or digest is damage, not a missing seal.
_SEAL = re.compile(r',\n "(.{6})": "(.{64})"\n\}\n?', re.DOTALL)
_LENGTH = len(',\n "": ""\n}\n') + len(NAME) + 64


class Damaged(ValueError):
    """Not JSON, not an object, or not what its checksum says."""


@dataclass(frozen=True)
class Opened:
    """content: without the seal."""

    content: dict[str, Any]
    sealed: bool


def sealed(content: Mapping[str, Any]) -> str:
    """Indented JSON of ``content``, which must not be empty, with its seal; NaN is refused."""
    body = json.dumps(content, indent=1, allow_nan=False)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{body[:-2]},\n "{NAME}": "{digest}"\n}}\n'


def opened(data: bytes) -> Opened:
    """The content of a file; raises Damaged."""
    try:
        text = data.decode()
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise Damaged("no JSON") from None
    if not isinstance(content, dict):
        raise Damaged("no JSON object")
    match = _SEAL.search(text, max(0, len(text) - _LENGTH))
    if match is None or match.end() != len(text):
        if _ends_with_a_checksum(content):
            raise Damaged("it does not match its own checksum")
        return Opened(content, sealed=False)
    body = text[: match.start()] + "\n}"
    if match[1] != NAME or match[2] != hashlib.sha256(body.encode()).hexdigest():
        raise Damaged("it does not match its own checksum")
    content.pop(NAME, None)
    return Opened(content, sealed=True)


def _ends_with_a_checksum(content: Mapping[str, Any]) -> bool:
    """Whether the last entry is a checksum, perhaps with another name or of another length."""
    last = list(content.values())[-1] if content else None
    if NAME in content or not isinstance(last, str):
        return NAME in content
    return abs(len(last) - 64) <= 8 and sum(digit in "0123456789abcdef" for digit in last) >= 48
