"""The frame that the float and the integer graph share: nodes in order, each naming its inputs.

The ``name`` of a node is also the name of its tensor, of ``shape`` (C, H, W).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Shape = tuple[int, int, int]
Pair = tuple[int, int]


class Named(Protocol):
    """A node with a name and inputs."""

    @property
    def name(self) -> str:
        """The name of the node and its tensor."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors that it reads."""
        ...


N = TypeVar("N", bound=Named, covariant=True)


@dataclass(frozen=True, eq=False)
class Source:
    """The input image, a node without inputs."""

    name: str
    shape: Shape

    @property
    def inputs(self) -> tuple[str, ...]:
        """Empty: the only node without inputs."""
        return ()


@dataclass(frozen=True, eq=False)
class Unary:
    """A node that reads one tensor."""

    name: str
    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one tensor that it reads."""
        return (self.input,)


@dataclass(frozen=True, eq=False)
class Windowed(Unary):
    """A node that reads one tensor through a sliding window."""

    kernel: Pair
    stride: Pair
    padding: Pair  # on both sides, of rows and of columns


@dataclass(frozen=True, eq=False)
class Padded(Unary):
    """Every ``stride``-th pixel from 0, then zero channels before and after."""

    stride: Pair
    before: int
    after: int
    shape: Shape


@dataclass(frozen=True, eq=False)
class Binary:
    """A node that reads two tensors."""

    name: str
    a: str
    b: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Both tensors that it reads."""
        return (self.a, self.b)


@dataclass(frozen=True, eq=False)
class Ordered(Generic[N]):
    """Nodes in topological order; the first is the only source, ``output`` names the last."""

    nodes: tuple[N, ...]
    output: str

    def node(self, name: str) -> N:
        """The node called ``name``; KeyError if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def consumers(self, name: str) -> Iterator[N]:
        """Every node that reads the tensor ``name``, in order."""
        return (node for node in self.nodes if name in node.inputs)


def kernel_positions(size: Pair, kernel: Pair, stride: Pair) -> list[tuple[slice, slice]]:
    """The rows and columns of a padded tensor that each kernel position reads, row by row."""
    high, wide = ((n - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True))
    return [
        (slice(i, i + stride[0] * high, stride[0]), slice(j, j + stride[1] * wide, stride[1]))
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
