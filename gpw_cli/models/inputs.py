"""Built-in networks and the size of their input images. Imports no torch.

    model_input("resnet20")       # (3, 32)
    model_input("resnt20")       # UsageError: did you mean resnet20?

``models/catalog.py`` finds the networks of gpw, ``models/registry.py`` builds all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from gpw_cli.errors import UsageError
from gpw_cli.models.catalog import Declared, declared
from gpw_cli.models.onnx_file import is_onnx, onnx_input

CIFAR = "resnet20"  # the declared network that stands for all depths
# torchvision 0.28, models.list_models(module=torchvision.models), compared in a test. Written out,
# so that keys and suggestions do not import torch.
_TORCHVISION = """
    alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161
    densenet169 densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3
    efficientnet_b4 efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_l
    efficientnet_v2_m efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5 mnasnet0_75
    mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small regnet_x_16gf
    regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf
    regnet_y_128gf regnet_y_16gf regnet_y_1_6gf regnet_y_32gf regnet_y_3_2gf regnet_y_400mf
    regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34 resnet50 resnext101_32x8d
    resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5
    shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b swin_v2_s
    swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32
    vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2
"""
TORCHVISION = tuple(_TORCHVISION.split())
_SIZES = {"inception_v3": 299}  # of the torchvision networks; the others: 224


def cifar_depth(name: str) -> int | None:
    """N of ``resnetN`` if N = 6n + 2 and torchvision has no network of that name; else None."""
    digits = name.removeprefix("resnet")
    if name in TORCHVISION or digits == name or not digits.isdecimal() or digits[0] == "0":
        return None
    depth = int(digits)
    return depth if depth >= 8 and depth % 6 == 2 else None


def found(name: str) -> Declared | None:
    """The network of gpw's own; ``resnetN`` of any depth is the one of ``cifar_resnet.py``."""
    return declared().get(CIFAR if cifar_depth(name) else name)


def is_built_in(name: str) -> bool:
    """Whether ``name`` is a built-in network, which no plug-in can replace."""
    return found(name) is not None or name in TORCHVISION


def model_names() -> list[str]:
    """The names for ``model.name``: networks of gpw, then those of torchvision.

    ``resnetN`` with any other N = 6n + 2 is accepted too (``cifar_depth``).
    """
    return [*declared(), *TORCHVISION]


def model_input(name: str) -> tuple[int, int]:
    """(channels, height and width in pixels) of the input of network ``name``.

    Raises:
        UsageError: no such network.
    """
    if is_onnx(name):
        return onnx_input(name)
    if (own := found(name)) is not None:
        return own.channels, own.size
    if name in TORCHVISION:
        return 3, _SIZES.get(name, 224)
    raise unknown_model(name)


def check_widths(name: str, widths: Sequence[int]) -> None:
    """Raise UsageError unless ``widths`` are the channels of a CIFAR ResNet's three stages."""
    if not widths:
        return
    value = f"model.widths={list(widths)}".replace(" ", "")
    if cifar_depth(name) is None:
        raise UsageError(f"{value}: model.name={name} has fixed widths; only CIFAR ResNets take it")
    if (
        len(widths) != 3
        or sorted(widths) != list(widths)
        or not 1 <= widths[0] <= widths[-1] <= 4096
    ):
        raise UsageError(
            f"{value}: expected the channels of three stages, 1 to 4096 and none narrower than the "
            "one before, such as model.widths=[16,32,96]"
        )


def unknown_model(name: str) -> UsageError:
    """The error for an unknown name."""
    close = get_close_matches(name, model_names(), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return UsageError(f"model.name={name}: no such network{hint} (`gpw ls` lists all of them)")
