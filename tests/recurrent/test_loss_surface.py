"""Slices of losses against direct evaluation, and the wall of one unit against its closed form."""

import numpy as np
import pytest
import torch

from probseq.recurrent import Cell
from probseq.recurrent.loss_surface import (
    descend,
    loss_plane,
    loss_slice,
    one_unit_loss,
    random_directions,
    weight_loss,
)
from tests.recurrent.every_cell import CELLS, D, numbers

STEPS, W = 12, 2.5
WALL = np.arctanh(0.5) - W / 2
SURFACE = one_unit_loss(STEPS)


def at(w: float, b: float) -> torch.Tensor:
    return torch.tensor([w, b], dtype=torch.float64)


def test_slices_of_a_parabola() -> None:
    """f(x) = |x|^2 has the gradient 2 x."""
    point, one, other = at(1, 2), at(1, 0), at(0, 3)
    line = loss_slice(lambda x: x.square().sum(), point, other, np.array([0.0, 1.0]))
    assert line.loss.tolist() == [5.0, 26.0] and line.gradient_norm == pytest.approx(2 * np.sqrt([5.0, 26.0]))
    plane = loss_plane(lambda x: x.square().sum(), point, (one, other), np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0]))
    assert plane.loss.tolist() == [[5.0, 26.0], [8.0, 29.0], [13.0, 34.0]]
    assert plane.gradient_norm == pytest.approx(2 * np.sqrt(plane.loss))


@pytest.mark.parametrize("name", CELLS)
def test_the_loss_of_a_module_moves_with_its_weights(name: str) -> None:
    cell, inputs = CELLS[name]().double(), numbers(2, 5, D)

    def loss(module: Cell) -> torch.Tensor:
        return module.unroll(inputs)[0][:, -1].square().sum()

    surface, point = weight_loss(cell, loss)
    before = {key: value.clone() for key, value in cell.state_dict().items()}
    (direction,) = random_directions(point, 1, seed=0)
    line = loss_slice(surface, point, direction, np.array([0.0, 0.4]))
    assert all(torch.equal(value, before[key]) for key, value in cell.state_dict().items())
    assert line.loss[0] == pytest.approx(float(loss(cell).detach()), rel=1e-12)
    torch.nn.utils.vector_to_parameters(point + 0.4 * direction, cell.parameters())
    moved = loss(cell)
    moved.backward()
    assert line.loss[1] == pytest.approx(float(moved.detach()), rel=1e-12)
    norms = [weight.grad.square().sum() for weight in cell.parameters() if weight.grad is not None]
    assert line.gradient_norm[1] == pytest.approx(float(sum(norms)) ** 0.5, rel=1e-10)


def test_directions_are_orthonormal_and_repeatable() -> None:
    one, other = random_directions(torch.zeros(9, dtype=torch.float64), 2, seed=3)
    assert float(one @ other) == pytest.approx(0, abs=1e-14) and float(other.norm()) == pytest.approx(1)
    assert torch.equal(one, random_directions(torch.zeros(9, dtype=torch.float64), 2, seed=3)[0])


def test_the_wall_stands_where_the_fixed_point_is_unstable() -> None:
    """On the wall h_T = h_0, and the gradient is the closed form's; to either side the unit ends near 1 or -1."""
    line = loss_slice(SURFACE, at(W, WALL), at(0, 1), np.array([-0.3, 0.0, 0.3]))
    assert line.loss[1] == pytest.approx(0.2**2)
    mu = W * 0.75
    by_bias = 0.75 * (mu**STEPS - 1) / (mu - 1)  # and by w it is h_0 times that
    assert line.gradient_norm[1] == pytest.approx(2 * 0.2 * by_bias * np.hypot(1, 0.5), rel=1e-9)
    assert line.gradient_norm[1] > 500 and (line.gradient_norm[[0, 2]] < 1).all()
    assert line.loss[0] > 2.5 > 0.1 > line.loss[2]


def test_clipping_keeps_a_descent_at_the_wall() -> None:
    """From the plateau above the wall plain descent falls against it and is thrown out; shortened to 0.1 a step is at
    most 0.01 long, whatever the slope, and the best point found stays in reach."""
    start = at(W, 0.2)
    thrown, kept = (descend(SURFACE, start, 0.1, 600, clip) for clip in (None, 0.1))
    moves = np.linalg.norm(np.diff(kept.points, axis=0), axis=1)
    assert (moves <= 0.01 + 1e-12).all()
    assert np.linalg.norm(np.diff(thrown.points, axis=0), axis=1).max() > 1
    assert kept.loss[-100:].min() < 1e-2
    free = kept.gradient_norm[:-1] <= 0.1
    assert moves[free] == pytest.approx(0.1 * kept.gradient_norm[:-1][free], rel=1e-9)
    assert moves[~free] == pytest.approx(0.01, rel=1e-9) and (~free).any()
