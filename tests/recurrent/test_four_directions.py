"""Recurrence over images against its formula, pixel by pixel."""

import json

import numpy as np
import pytest
import torch

from probseq.errors import DataError, ModelError
from probseq.recurrent import FourDirections
from probseq.recurrent.described import Described
from tests.recurrent.every_cell import numbers
from tests.recurrent.transcriptions import four_directions

CELLS = ["vanilla", "lstm"]
D, H = 2, 3


def layer_of(cell: str) -> FourDirections:
    return FourDirections(D, H, cell=cell, seed=1).double()  # pyright: ignore


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (4, 4), (3, 6), (6, 3), (2, 7)])
def test_it_is_its_formula(cell: str, size: tuple[int, int]) -> None:
    layer, images = layer_of(cell), numbers(3, D, *size)
    weights = {name: value.numpy() for name, value in layer.state_dict().items()}
    for image, found in zip(images.numpy(), layer(images).detach().numpy(), strict=True):
        np.testing.assert_allclose(found, four_directions(layer, weights, image), rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_each_direction_sees_its_quarter(cell: str) -> None:
    """The gradient of one pixel reaches the pixels on its side of the image, each of them, and no other."""
    layer, images = layer_of(cell), numbers(1, D, 4, 5).requires_grad_()
    features = layer(images)
    row, column = torch.meshgrid(torch.arange(4), torch.arange(5), indexing="ij")
    quarters = [(row <= 1) & (column <= 2), (row <= 1) & (column >= 2), (row >= 1) & (column <= 2)]
    for k, quarter in enumerate([*quarters, (row >= 1) & (column >= 2)]):
        (found,) = torch.autograd.grad(features[0, k * H : (k + 1) * H, 1, 2].sum(), images, retain_graph=True)
        assert torch.equal(found[0].abs().sum(0) > 0, quarter)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_finite_differences(cell: str) -> None:
    layer, images = layer_of(cell), numbers(2, D, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda one, *_: layer(one), [images, *layer.parameters()], fast_mode=True)


def test_the_batch_and_its_order_do_not_matter() -> None:
    layer, images = layer_of("lstm"), numbers(4, D, 3, 5)
    whole = layer(images)
    torch.testing.assert_close(layer(images[[2]]), whole[[2]], rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(images[[3, 1, 0, 2]]), whole[[3, 1, 0, 2]], rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.float()(images.float()).double(), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, D, 3, 4), (2, D, 0, 4), (2, D, 3, 0)])
def test_nothing_gives_nothing(shape: tuple[int, ...]) -> None:
    assert layer_of("lstm")(numbers(*shape)).shape == (shape[0], 4 * H, *shape[2:])


@pytest.mark.parametrize("cell", CELLS)
def test_saved_and_rebuilt_it_is_the_same(cell: str) -> None:
    layer, images = layer_of(cell), numbers(2, D, 3, 4)
    again = Described.rebuild(json.loads(json.dumps(layer.description())))
    assert isinstance(again, FourDirections) and again.description() == layer.description()
    again.double().load_state_dict(layer.state_dict())
    assert torch.equal(again(images), layer(images))


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(DataError, match=r"images must be \(images, 2, rows, columns\), got \(3, 4, 5, 2\)"):
        layer_of("lstm")(numbers(3, 4, 5, 2))
    with pytest.raises(DataError, match="images must be torch.float64 on cpu as the weights are, got torch.float32"):
        layer_of("lstm")(numbers(3, 2, 4, 5).float())
    with pytest.raises(ModelError, match="cell must be 'vanilla' or 'lstm', got 'gru' at FourDirections"):
        FourDirections(2, 3, cell="gru")  # pyright: ignore
