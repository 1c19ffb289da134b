"""The torchvision families that compile for VTA, from a measured table.

    compiling()["mobilenet_v2"]       # "" if it compiles, else the reason why not

``scripts/check_families.py`` compiles and simulates one network per family and writes the table;
``gpw ls`` reads it. Imports no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from gpw_cli.models.inputs import TORCHVISION

FILE = Path(__file__).resolve().with_suffix(".json")
# family: (pattern of its networks, the checked network, image size in pixels)
FAMILIES: dict[str, tuple[str, str, int]] = {
    "alexnet": (r"alexnet", "alexnet", 64),
    "vgg": (r"vgg\d+", "vgg11", 64),
    "vgg_bn": (r"vgg\d+_bn", "vgg11_bn", 64),
    "resnet": (r"resnet\d+", "resnet18", 64),
    "wide_resnet": (r"wide_resnet.*", "wide_resnet50_2", 64),
    "resnext": (r"resnext.*", "resnext50_32x4d", 64),
    "mobilenet_v2": (r"mobilenet_v2", "mobilenet_v2", 64),
    "mnasnet": (r"mnasnet.*", "mnasnet0_5", 64),
    "squeezenet": (r"squeezenet.*", "squeezenet1_1", 64),
    "densenet": (r"densenet.*", "densenet121", 64),
    "googlenet": (r"googlenet", "googlenet", 64),
    "inception_v3": (r"inception_v3", "inception_v3", 96),
    "regnet_x": (r"regnet_x.*", "regnet_x_400mf", 64),
    "shufflenet_v2": (r"shufflenet_v2.*", "shufflenet_v2_x0_5", 64),
    "regnet_y": (r"regnet_y.*", "regnet_y_400mf", 64),
    "mobilenet_v3": (r"mobilenet_v3.*", "mobilenet_v3_small", 64),
    "efficientnet": (r"efficientnet_b.*", "efficientnet_b0", 64),
    "efficientnet_v2": (r"efficientnet_v2.*", "efficientnet_v2_s", 64),
    "convnext": (r"convnext.*", "convnext_tiny", 64),
    "vit": (r"vit.*", "vit_b_32", 224),
    "swin": (r"swin.*", "swin_t", 64),
    "maxvit": (r"maxvit.*", "maxvit_t", 224),
}


@dataclass(frozen=True)
class CheckedFamily:
    """One family; ``refused``: why it does not compile, else "".

    ``exact``: all logits of VTA's simulator equal those of the reference executor.
    """

    family: str
    network: str
    pixels: int
    refused: str
    exact: bool
    instructions: int
    cycles: int
    seconds: float

    @property
    def compiles(self) -> bool:
        """Whether the network compiles."""
        return not self.refused


def family_of(network: str) -> str:
    """The family of a torchvision network."""
    return next(
        family for family, (pattern, *_) in FAMILIES.items() if re.fullmatch(pattern, network)
    )


def load_checked() -> dict[str, CheckedFamily]:
    """The committed table by family; empty if there is none."""
    rows = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else []
    return {row["family"]: CheckedFamily(**row) for row in rows}


def save_checked(table: dict[str, CheckedFamily]) -> None:
    """Write the table in the order of ``FAMILIES``."""
    rows = [asdict(table[family]) for family in FAMILIES if family in table]
    FILE.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def compiling(refused: Mapping[str, str] | None = None) -> dict[str, str]:
    """Torchvision network -> why its family does not compile; "" if it does.

    refused: the same by family; default: the table, for VTA. Families without an entry are left
    out.
    """
    if refused is None:
        refused = {family: row.refused for family, row in load_checked().items()}
    return {name: refused[family_of(name)] for name in TORCHVISION if family_of(name) in refused}
