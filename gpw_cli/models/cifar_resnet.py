"""The CIFAR ResNets of He et al. 2016 (section 4.2): 6n+2 layers, 16/32/64 channels.

    net = cifar_resnet(depth=20, classes=10, shortcut="A")
    net = cifar_resnet(depth=8, classes=10, widths=(16, 32, 96))
    logits = net(torch.zeros(1, 3, 32, 32))        # [1, 10]

Parameter names follow the common public implementation (``conv1``, ``layer1.0.conv1``, ``linear``),
so that its checkpoints load unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gpw_cli.errors import UsageError
from gpw_cli.models.catalog import NetworkSpec, require_colour

# and any other depth 6n + 2 (inputs.py)
NETWORKS = {
    "resnet8": (3, 32), "resnet14": (3, 32), "resnet20": (3, 32),
    "resnet32": (3, 32), "resnet44": (3, 32), "resnet56": (3, 32),
}  # fmt: skip
WIDTHS = (16, 32, 64)  # channels of the three stages, as published
Shortcut = Literal["A", "B"]


def build_network(wanted: NetworkSpec) -> CifarResNet:
    """``resnetN``. Raises UsageError for a shortcut that is not A or B."""
    require_colour(wanted)
    if wanted.shortcut not in ("A", "B"):
        raise UsageError(
            f"model.shortcut={wanted.shortcut}: use A (zero padding, as published) or B "
            "(1x1 convolution)"
        )
    option: Shortcut = "A" if wanted.shortcut == "A" else "B"
    depth = int(wanted.name.removeprefix("resnet"))
    return cifar_resnet(depth, wanted.classes, option, wanted.widths)


def he_normal_(network: nn.Module) -> None:
    """Draw the weights of all convolutions and linear layers (He et al. 2015), in module order."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)


class PadShortcut(nn.Module):
    """Option A without parameters: every second pixel, zero channels added on both sides."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, ceil(H/stride), ceil(W/stride)]."""
        if x.requires_grad and torch.is_grad_enabled():
            return _PadFunction.apply(x, self.stride, self.before, self.after)  # type: ignore[no-any-return, no-untyped-call]
        return _pad(x, self.stride, self.before, self.after)


def _pad(x: Tensor, stride: int, before: int, after: int) -> Tensor:
    return nn.functional.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, before, after))


class _PadFunction(torch.autograd.Function):
    """``_pad`` whose gradient has the memory format of its input.

    The gradient from autograd is NCHW. Adding it to the channels_last gradient of the other branch
    then takes strided passes, a quarter of the training step of a ResNet-8.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int, before: int, after: int) -> Tensor:
        """See ``PadShortcut``."""
        ctx.options = (stride, before, x.shape)
        return _pad(x, stride, before, after)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient: zero except at the selected pixels."""
        stride, before, shape = ctx.options
        out = grad.new_zeros(shape).contiguous(memory_format=torch.channels_last)
        out[:, :, ::stride, ::stride] = grad[:, before : before + shape[1]]
        return out, None, None, None


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.shortcut = _shortcut(in_channels, channels, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, channels, H/stride, W/stride]."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        # in place, as the ReLUs: the backward pass does not need the old value
        out += self.shortcut(x)
        return self.relu2(out)  # type: ignore[no-any-return]


def _shortcut(in_channels: int, channels: int, stride: int, option: Shortcut) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    if option == "A":
        return PadShortcut(in_channels, channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
    )


class CifarResNet(nn.Module):
    """ResNet for 32x32 images: a 3x3 stem, three stages, global average, one linear layer."""

    def __init__(
        self, depth: int, classes: int, shortcut: Shortcut, widths: Sequence[int] = WIDTHS
    ) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        first, second, third = widths
        self.conv1 = nn.Conv2d(3, first, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(first, first, 1, blocks, shortcut)
        self.layer2 = _stage(first, second, 2, blocks, shortcut)
        self.layer3 = _stage(second, third, 2, blocks, shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(third, classes)
        he_normal_(self)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] float -> logits [N, classes]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(self.pool(x), 1))  # type: ignore[no-any-return]


def _stage(
    in_channels: int, channels: int, stride: int, blocks: int, shortcut: Shortcut
) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride, shortcut)
    rest = [BasicBlock(channels, channels, 1, shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def cifar_resnet(
    depth: int, classes: int, shortcut: Shortcut = "A", widths: Sequence[int] = ()
) -> CifarResNet:
    """A ResNet of ``depth`` 6n + 2 layers; shortcut option A is the published form for CIFAR.

    ``widths``: channels of the three stages in non-decreasing order; empty: 16, 32, 64.
    """
    return CifarResNet(depth, classes, shortcut, widths or WIDTHS)
