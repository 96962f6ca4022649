"""Jacobians of cells and their products, and the exponents of gradients, against theory and autograd."""

import numpy as np
import pytest
import torch
from torch import Tensor

from probseq.errors import DataError
from probseq.recurrent import (
    LSTM,
    Cell,
    Vanilla,
    fit_decay,
    gradient_norms,
    gradients_by_span,
    log_singular_values,
    resting_exponent,
    span_jacobians,
    spectral_radius,
    step_jacobians,
)
from tests.recurrent.every_cell import CELLS, MEMORYLESS, D, H, numbers, state_like

B, L = 2, 6
INPUTS = numbers(B, L, D, seed=5)


class Linear(Cell):
    """h_t = U x_t + W h_{t-1}, of given W."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.input_size, self.hidden_size = D, len(w)
        self.u, self.w = torch.nn.Parameter(numbers(len(w), D, seed=1)), torch.nn.Parameter(w)

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.hidden_size,),)

    def step(self, inputs, state):
        h = inputs @ self.u.T + state[0] @ self.w.T
        return h, (h,)


def vanilla(w: Tensor) -> Vanilla:
    """A tanh cell of given W_hh, without biases."""
    cell = Vanilla(D, len(w), seed=1).double()
    with torch.no_grad():
        cell.layer.weight_hh_l0.copy_(w)
        cell.layer.bias_ih_l0.zero_()
        cell.layer.bias_hh_l0.zero_()
    return cell


def with_radius(radius: float, size: int, seed: int) -> Tensor:
    w = numbers(size, size, seed=seed)
    return w * (radius / np.abs(np.linalg.eigvals(w.numpy())).max())


def square(output: Tensor) -> Tensor:
    return (output - 0.3).square().sum(1)


@pytest.fixture(params=CELLS)
def cell(request: pytest.FixtureRequest) -> Cell:
    return CELLS[request.param]().double()


def whole(cell: Cell, inputs: Tensor, flat: Tensor) -> Tensor:
    """One sequence's last state as one vector, of the state before it as one vector."""
    sizes = [int(np.prod(shape)) for shape in cell.state_shapes]
    parts = zip(flat.split(sizes), cell.state_shapes, strict=True)
    state = tuple(part.reshape(1, *shape) for part, shape in parts)
    state = cell.unroll(inputs.unsqueeze(0), state=state)[1]
    return torch.cat([one.flatten() for one in state])


def test_products_are_autograds_jacobians_of_the_whole_stretch(cell: Cell) -> None:
    state = state_like(cell, B)
    products = span_jacobians(step_jacobians(cell, INPUTS, state))
    logs = log_singular_values(step_jacobians(cell, INPUTS, state))
    for n in range(B):
        for span in range(1, L + 1):
            before = tuple(one[n : n + 1] for one in state)
            if span < L:
                before = cell.unroll(INPUTS[n : n + 1, : L - span], state=before)[1]
            flat = torch.cat([one.flatten() for one in before]).detach()
            last = INPUTS[n, L - span :]
            expected = torch.autograd.functional.jacobian(lambda s, last=last: whole(cell, last, s), flat)
            torch.testing.assert_close(products[n, span - 1], expected, rtol=1e-10, atol=1e-12)
            values = torch.from_numpy(np.linalg.svd(expected.numpy(), compute_uv=False))
            torch.testing.assert_close(logs[n, span - 1].exp(), values, rtol=1e-9, atol=1e-10)


def test_gradients_by_span_are_autograds(cell: Cell) -> None:
    state = state_like(cell, B)
    found = gradients_by_span(cell, INPUTS, square, state)
    for span in range(1, L + 1):
        before = cell.unroll(INPUTS[:, : L - span], state=state)[1] if span < L else state
        before = tuple(one.detach().requires_grad_() for one in before)
        loss = square(cell.unroll(INPUTS[:, L - span :], state=before)[0][:, -1]).sum()
        expected = torch.autograd.grad(loss, before, allow_unused=True)
        for one, other in zip(found, expected, strict=True):
            other = torch.zeros_like(one[:, 0]) if other is None else other
            torch.testing.assert_close(one[:, span - 1], other, rtol=1e-10, atol=1e-12)
    norms = np.sqrt(sum(one.flatten(2).square().sum(2) for one in found).mean(0).numpy())
    np.testing.assert_allclose(gradient_norms(cell, INPUTS, square, state), norms, rtol=1e-12)


def test_the_vanilla_jacobian_is_the_formula() -> None:
    """J_t = diag(1 - h_t^2) W, in numpy."""
    cell = CELLS["vanilla"]().double()
    found = step_jacobians(cell, INPUTS)
    (u, w, b_x, b_h), h = (one.detach().numpy() for one in cell.weights), np.zeros((B, H))
    for t in range(L):
        h = np.tanh(INPUTS[:, t].numpy() @ u.T + h @ w.T + b_x + b_h)
        np.testing.assert_allclose(found[:, t].numpy(), (1 - h**2)[:, :, None] * w, rtol=1e-12, atol=1e-14)


def test_spectra_neither_underflow_nor_overflow() -> None:
    """The matrix diag(10, 1e-4) to the power 400 has singular values 10^400 and 10^-1600, outside float64; of a span
    only those within its precision are right."""
    matrix = torch.diag(torch.tensor([10.0, 1e-4], dtype=torch.float64)).expand(400, 2, 2)
    assert log_singular_values(matrix)[:, 0].numpy() == pytest.approx(np.arange(1, 401) * np.log(10))
    assert float(log_singular_values(matrix)[2, 1]) == pytest.approx(3 * np.log(1e-4))
    assert bool((log_singular_values(torch.zeros(3, 2, 2)) == -torch.inf).all())


@pytest.mark.parametrize("radius", [0.5, 0.8, 0.95, 1.0, 1.1])
def test_the_exponent_of_a_linear_cell_is_the_log_of_the_spectral_radius(radius: float) -> None:
    """Over spans 100 to 400, past the transient of the other eigenvalues; a pair of complex ones turns, so that the
    norm swings about the line by a factor that does not grow: 0.003 nats a step at most. Of a multiple of an
    orthogonal matrix the slope is exact."""
    inputs = numbers(1, 400, D, seed=2)
    cell = Linear(with_radius(radius, 8, seed=7))
    fitted = fit_decay(gradient_norms(cell, inputs, square), first=100)
    assert fitted.exponent == pytest.approx(np.log(radius), abs=0.003)
    assert resting_exponent(cell) == pytest.approx(np.log(radius), abs=1e-10)
    turn = Linear(radius * torch.linalg.qr(numbers(8, 8, seed=4))[0])
    fitted = fit_decay(gradient_norms(turn, inputs, square))
    assert fitted.exponent == pytest.approx(np.log(radius), abs=1e-10) and fitted.deviation < 1e-9


@pytest.mark.parametrize("radius", [0.6, 0.9, 1.05])
def test_the_exponent_of_small_activations_is_that_of_the_linear_cell(radius: float) -> None:
    """tanh is a line to second order: activations that stay below 1e-4 change the slope by less than 1e-6. At rest the
    vanilla cell also explodes, where the spectral radius exceeds one. The second eigenvalue is 0.9 of the first, and
    gone after 150 steps."""
    q = torch.linalg.qr(numbers(6, 6, seed=8))[0]
    cell = vanilla(radius * q @ torch.diag(torch.tensor([1, -0.9, 0.8, 0.5, 0.1, 0.0], dtype=torch.float64)) @ q.T)
    rest = torch.zeros(1, 200, D, dtype=torch.float64)
    inputs = rest if radius > 1 else 1e-6 * numbers(1, 200, D, seed=3)
    fitted = fit_decay(gradient_norms(cell, inputs, lambda h: h.sum(1)), first=150)
    assert fitted.exponent == pytest.approx(np.log(radius), abs=1e-6)
    assert fitted.norm(np.array([180])) == pytest.approx(
        gradient_norms(cell, inputs, lambda h: h.sum(1))[179], rel=1e-3
    )


def test_large_activations_make_gradients_vanish_faster_than_the_radius_says() -> None:
    cell = vanilla(with_radius(1.0, 8, seed=7))
    fitted = fit_decay(gradient_norms(cell, 3 * numbers(16, 100, D, seed=2), square), first=20)
    assert fitted.exponent < -0.2 and spectral_radius(cell.weights[1]) == pytest.approx(1.0)


@pytest.mark.parametrize("bias", [0.0, 2.0, 5.0])
def test_the_memory_of_an_lstm_decays_as_its_forget_gate_says(bias: float) -> None:
    """Without recurrent weights dc_T / dc_{T-k} is sigmoid(bias)^k in all directions."""
    lstm = LSTM(D, H, forget_bias=bias, seed=0).double()
    with torch.no_grad():
        lstm.layer.weight_hh_l0.zero_()
        lstm.layer.weight_ih_l0[H : 2 * H] = 0.0
    exponent = -np.log1p(np.exp(-bias))
    norms = gradient_norms(lstm, numbers(B, 50, D, seed=5), square)
    assert fit_decay(norms).exponent == pytest.approx(exponent, abs=1e-12)
    logs = log_singular_values(step_jacobians(lstm, numbers(B, 50, D, seed=5)))[0, 49]
    assert logs[0] == pytest.approx(50 * exponent, abs=0.5)  # up to what h_T adds to c_T
    assert resting_exponent(lstm) == pytest.approx(exponent, abs=1e-12)


def test_a_cell_without_memory_and_a_sequence_without_steps_are_refused() -> None:
    memoryless = MEMORYLESS["feedforward"]().double()
    with pytest.raises(DataError, match="got no state at Feedforward"):
        step_jacobians(memoryless, INPUTS)
    with pytest.raises(DataError, match="got no steps at Vanilla"):
        gradient_norms(CELLS["vanilla"]().double(), INPUTS[:, :0], square)


def test_a_line_of_unusable_norms_is_refused() -> None:
    with pytest.raises(DataError, match="two spans at least"):
        fit_decay(np.array([1.0, 0.0, 0.5]))
    with pytest.raises(DataError, match="spans 2 to 9"):
        fit_decay(np.ones(3), first=2, last=9)
