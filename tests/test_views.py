"""Views: operators that move values within an image, and the nodes that compute them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from gpw_cli.graph.floating import run_float
from gpw_cli.graph.ir import Graph, Input, Pad
from gpw_cli.graph.moves import Select, Spread, Upsample
from gpw_cli.graph.views import INDEX, image_nodes, is_natural, moved, natural

SHAPE = (3, 4, 6)
Move = Callable[[Tensor], Tensor]


def view_of(run: Move) -> np.ndarray:
    found = moved(run, [INDEX], {}, natural(SHAPE), 2)
    assert isinstance(found, np.ndarray)
    return found


@pytest.mark.parametrize(
    "run",
    [
        lambda x: x.flip(0),
        lambda x: x[:1].repeat(2, 1, 1, 1),  # the first image is its own, the second is not
        lambda x: x[1:].repeat(2, 1, 1, 1),
        lambda x: torch.cat([x[:, :2], x[:1, 2:].repeat(2, 1, 1, 1)], 1),  # in one channel only
        lambda x: x[:1],
        lambda x: x.transpose(0, 1),
    ],
)
def test_a_move_between_images_is_no_view(run: Move) -> None:
    assert moved(run, [INDEX], {}, natural(SHAPE), 2) is None


def test_parts_and_keywords() -> None:
    first, rest = moved(torch.split, [INDEX], {"split_size_or_sections": [1, 2], "dim": 1},
                        natural(SHAPE), 2)  # fmt: skip
    assert np.array_equal(first, natural(SHAPE)[:1])
    assert np.array_equal(rest, natural(SHAPE)[1:])
    joined = moved(torch.cat, [[INDEX, INDEX]], {"dim": 2}, natural(SHAPE), 3)
    assert np.array_equal(joined, np.concatenate([natural(SHAPE)] * 2, axis=1))


@pytest.mark.parametrize(
    ("run", "kinds"),
    [
        (lambda x: x, []),
        (lambda x: x.flip(1), [Select]),
        (lambda x: x[:, [2, 0]], [Select]),
        (lambda x: x[:, :, ::2, ::3], [Pad]),
        (lambda x: x[:, :, ::3], [Pad]),
        (lambda x: x[:, 1:, :, ::5], [Select, Pad]),
        (lambda x: x.repeat_interleave(2, 2).repeat_interleave(3, 3), [Upsample]),
        (lambda x: x.repeat_interleave(3, 3), [Upsample]),
        (lambda x: x.repeat(1, 1, 2, 3), [Spread]),
        (lambda x: x[:, :, 1:, 2:5], [Spread]),
        (lambda x: x.flip(2), [Spread]),
        (lambda x: x.flip(3)[:, 1:], [Select, Spread]),
        (lambda x: x.repeat_interleave(2, 2)[..., 1:], [Spread]),
    ],
)
def test_the_nodes_of_a_view_compute_it(run: Move, kinds: list[type]) -> None:
    source = Input("input", SHAPE, (0.0,) * 3, (1.0,) * 3)
    nodes = image_nodes(view_of(run), source, lambda: "view")
    assert nodes is not None
    assert [type(node) for node in nodes] == kinds
    graph = Graph((source, *nodes), nodes[-1].name if nodes else "input")
    x = torch.randn(2, *SHAPE, dtype=torch.float64)
    assert torch.equal(run_float(graph, x), run(x).flatten(1))


@pytest.mark.parametrize(
    "run", [lambda x: x.transpose(2, 3), lambda x: x.transpose(1, 2), lambda x: x.roll(1)]
)
def test_other_orders_have_no_nodes(run: Move) -> None:
    index = natural(SHAPE).ravel()
    found = run(torch.from_numpy(natural(SHAPE))[None])[0].numpy()
    assert sorted(found.ravel()) == index.tolist()
    source = Input("input", SHAPE, (0.0,) * 3, (1.0,) * 3)
    assert image_nodes(found, source, lambda: "view") is None


def test_natural_views_are_the_tensor_or_all_of_it_flat() -> None:
    index = natural(SHAPE)
    assert is_natural(index, SHAPE)
    assert is_natural(index.ravel(), SHAPE)
    assert is_natural(index.reshape(72, 1, 1), SHAPE)
    assert not is_natural(index[:, ::-1], SHAPE)
    assert not is_natural(index.reshape(4, 3, 6), SHAPE)
    assert not is_natural(index[:2], SHAPE)
    assert is_natural(natural((5, 1, 1)), (5, 1, 1))
    assert is_natural(natural((5,)), (5, 1, 1))
