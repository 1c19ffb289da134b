"""Small networks written the ways that people write them, for the graph and quantization tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Batch-norm statistics and affine parameters away from 0 and 1; evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
    return model.eval()


class ForeignBlock(nn.Module):
    """Functional ReLU, a lambda shortcut with slicing and padding, in-place addition."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1:
            self.shortcut = Lambda(channels // 4)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class Lambda(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.run = lambda x: F.pad(
            x[:, :, ::2, ::2], (0, 0, 0, 0, channels, channels), "constant", 0
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class ForeignNet(nn.Module):
    """Kernel size read from the image, ``view``, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(ForeignBlock(8, 8, 1), ForeignBlock(8, 16, 2))
        self.linear = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer1(F.relu(self.bn1(self.conv1(x))))
        out = F.avg_pool2d(out, out.size()[3])
        return self.linear(out.view(out.size(0), -1))


class ResNetBlock(nn.Module):
    """As in torchvision: one in-place ReLU used twice, downsample branch, ``out += identity``."""

    def __init__(self, in_channels: int, channels: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = channels * 2 if bottleneck else channels
        sizes = (1, 3, 1) if bottleneck else (3, 3)
        steps = (1, stride, 1) if bottleneck else (stride, 1)
        widths = [in_channels, *([channels] * (len(sizes) - 1)), out]
        for i, size in enumerate(sizes):
            conv = nn.Conv2d(widths[i], widths[i + 1], size, steps[i], size // 2, bias=False)
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        self.count = len(sizes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out:
            conv = nn.Conv2d(in_channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        identity, out = x, x
        for i in range(1, self.count + 1):
            out = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(out))
            if i < self.count:
                out = self.relu(out)
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNetLike(nn.Module):
    """The stem, max pool, stages and head of torchvision's ResNets, narrow."""

    def __init__(self, bottleneck: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        grow = 2 if bottleneck else 1
        self.layer1 = nn.Sequential(ResNetBlock(8, 8, 1, bottleneck))
        self.layer2 = nn.Sequential(
            ResNetBlock(8 * grow, 16, 2, bottleneck), ResNetBlock(16 * grow, 16, 1, bottleneck)
        )
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16 * grow, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


class VggLike(nn.Module):
    """Convolutions with bias, max pools, an adaptive pool that is the identity, dropout."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (8, 16):
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            layers.extend([nn.BatchNorm2d(width)] if norm else [])
            layers.extend([nn.ReLU(inplace=True), nn.MaxPool2d(2, 2)])
            channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((4, 4))
        self.classifier = nn.Sequential(
            nn.Linear(16 * 16, 20), nn.ReLU(True), nn.Dropout(), nn.Linear(20, 6)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class MeanNet(nn.Module):
    """Pre-activation batch norm, ``x.mean``, a clamp as ReLU, ``F.max_pool2d``."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 8, 3, padding="same")
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv(self.bn(x)).clamp(min=0), 2)
        return self.fc(x.mean([2, 3]))
