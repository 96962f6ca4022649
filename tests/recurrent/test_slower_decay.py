"""Leaky and delayed connections: fitted exponents of gradients, closed forms, and roots of polynomials."""

import numpy as np
import pytest
import torch
from torch import Tensor

from probseq.recurrent import (
    Delayed,
    Leaky,
    delayed_exponent,
    fit_decay,
    gradient_norms,
    leaky_exponent,
    resting_exponent,
)
from tests.recurrent.every_cell import numbers

H = 4
RADIUS = 0.8
TURN = torch.linalg.qr(numbers(H, H, seed=1))[0]
SYMMETRIC = TURN @ torch.diag(torch.tensor([RADIUS, 0.5, 0.2, -0.4], dtype=torch.float64)) @ TURN.T


def at_rest(spans: int) -> Tensor:
    return torch.zeros(1, spans, 2, dtype=torch.float64)


def total(output: Tensor) -> Tensor:
    return output.sum(1)


def leaky(tau: float) -> Leaky:
    cell = Leaky(2, H, tau=tau).double()
    with torch.no_grad():
        cell.weight_hh.copy_(SYMMETRIC)
        cell.bias.zero_()
    return cell


def delayed(w_hh: Tensor, **weights: Tensor) -> Delayed:
    cell = Delayed(2, H, delays=[int(name[1:]) for name in weights]).double()
    with torch.no_grad():
        cell.weight_hh.copy_(w_hh)
        cell.bias.zero_()
        for own, weight in zip(cell.delayed_weights, weights.values(), strict=True):
            own.copy_(weight)
    return cell


@pytest.mark.parametrize("tau", [1.0, 3.0, 10.0, 30.0])
def test_leaks_slow_vanishing_by_their_time_constant(tau: float) -> None:
    """The slowest eigenvalue is 0.8, the next 0.5: after 20 tau steps nothing is left of it."""
    theory = np.log(1 - (1 - RADIUS) / tau)
    cell, spans = leaky(tau), int(60 * tau)
    fitted = fit_decay(gradient_norms(cell, at_rest(spans), total), first=int(40 * tau))
    assert fitted.exponent == pytest.approx(theory, abs=1e-6)
    assert resting_exponent(cell) == pytest.approx(theory, abs=1e-9)
    assert leaky_exponent(SYMMETRIC, cell.time_constants) == pytest.approx(theory, abs=1e-9)
    assert theory == pytest.approx(-(1 - RADIUS) / tau, rel=0.12)  # the time constant of the gradient is tau / 0.2


@pytest.mark.parametrize("delay", [1, 2, 5, 10])
def test_delays_slow_vanishing_from_lambda_to_the_t_to_lambda_to_the_t_over_d(delay: int) -> None:
    """Multiples of an orthogonal matrix: the gradient falls in steps of one factor 0.8 every D spans, by whose corners
    the slope of a line over 40 of them is off by less than one part in a thousand."""
    cell = delayed(torch.zeros(H, H), **{f"d{delay}": RADIUS * TURN})
    norms = gradient_norms(cell, at_rest(40 * delay), total)
    assert norms[delay - 1 :: delay] == pytest.approx(norms[delay - 1] * RADIUS ** np.arange(40), rel=1e-9)
    assert fit_decay(norms).exponent == pytest.approx(np.log(RADIUS) / delay, rel=1e-3)
    assert delayed_exponent({delay: RADIUS * TURN}) == pytest.approx(np.log(RADIUS) / delay, abs=1e-9)
    assert resting_exponent(cell) == pytest.approx(np.log(RADIUS) / delay, abs=1e-9)


def test_a_short_and_a_long_connection_decay_as_the_root_of_their_polynomial() -> None:
    """Of numbers a and b, z^7 = a z^6 + b; matrices of the same eigenvectors take it for each pair of eigenvalues."""
    roots = np.abs(np.roots([1, -0.5 * RADIUS, 0, 0, 0, 0, 0, -0.3 * RADIUS])).max()
    cell = delayed(0.5 * SYMMETRIC, d7=0.3 * SYMMETRIC)
    theory = delayed_exponent({1: 0.5 * SYMMETRIC, 7: 0.3 * SYMMETRIC})
    assert theory == pytest.approx(np.log(roots), abs=1e-9)
    assert resting_exponent(cell) == pytest.approx(theory, abs=1e-9)
    fitted = fit_decay(gradient_norms(cell, at_rest(400), total), first=200)
    assert fitted.exponent == pytest.approx(theory, abs=1e-3)  # the next roots turn, and are nearly as great
    assert theory > np.log(0.5 * RADIUS)
