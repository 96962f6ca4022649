"""Laplace's approximation: a Gaussian in unconstrained coordinates, at the mode, with the curvature there.

    u | data ~ Normal(m, H^-1), m = argmax f, H = -f''(m), f(u) = log p(data, parameters(u)) + log |d parameters / du|

(Tierney & Kadane 1986). f is the log density of the coordinates, Jacobian included, as in Pyro's
AutoLaplaceApproximation; its mode is not that of the density of the parameters, which `em(priors=True)` finds. The
Hessian is exact: automatic differentiation, twice through the sum over paths.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probseq.errors import FitError
from probseq.inference.fit import Fit, fitted
from probseq.inference.potential import Potential
from probseq.inference.starting_points import highest_point, potential_of
from probseq.models.hmm import HMM
from probseq.models.program import as_model
from probseq.sequences import Sequences

NEWTON_STEPS = 20
"""At most so many after L-BFGS."""

FLAT = 1e-6
"""Nats per unit of any coordinate: a gradient below it is that of a mode."""


def laplace(
    model: HMM | Callable[..., Any],
    series: Sequences,
    *,
    draws: int = 1000,
    seed: int = 0,
    start: Fit | None = None,
) -> Fit:
    """Approximate the posterior of the parameters by a Gaussian in unconstrained coordinates.

    Args:
        model: an `HMM`, or any Pyro program of one argument, the series, with a `MarkovChain` site.
        series: the data.
        draws: of the parameters from the Gaussian.
        seed: of the starts and draws.
        start: a fit of the same model from whose point the mode is climbed to; None climbs from several starts.

    Returns:
        A `Fit` whose point is the mode (of the density of the coordinates) and whose draws are of the Gaussian.

    Raises:
        FitError: no mode was found, or the density is flat there in some direction.
    """
    if draws < 1:
        raise FitError(f"draws must be at least 1, got {draws}.")
    began = time.perf_counter()
    bound = as_model(model).bind(series, with_priors=True)
    if start is None:
        potential = potential_of(bound, series, seed)
        first = highest_point(potential, seed)
    else:
        potential = Potential(bound, series, start.parameters)
        first = potential.coordinates.pack().numpy()
    mode, trace = _climb(potential, first)
    precision = curvature(potential, mode)
    factor, failed = torch.linalg.cholesky_ex(precision)
    if int(failed):
        raise FitError(
            "A Laplace approximation must stand on a mode, got a point at which the density does not fall in every "
            "direction; drop states that no data belong to, or use nuts."
        )
    noise = torch.randn(len(mode), draws, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points = mode + torch.linalg.solve_triangular(factor.mT, noise, upper=True).mT
    drawn = {name: value.detach() for name, value in potential.parameters(points).items()}
    return _fit(potential, mode, drawn, trace, time.perf_counter() - began)


def _fit(potential: Potential, mode: Tensor, drawn: dict[str, Tensor], trace: list[float], seconds: float) -> Fit:
    """The Gaussian as a `Fit`; it warns where the climb did not end at a mode."""
    model, series = potential.model, potential.series
    point = {name: value.detach() for name, value in potential.coordinates.unpack(mode).items()}
    slope = float(np.abs(potential(mode.numpy())[1]).max())
    if not slope < FLAT:
        warnings.warn(f"Laplace did not reach a mode: the gradient is {slope:g} where it ended.", stacklevel=3)
    return fitted(
        model,
        series,
        parameters=point,
        draws=drawn,
        method="laplace",
        with_priors=True,
        objective=torch.tensor(trace, dtype=torch.float64),
        converged=slope < FLAT,
        stop_reason=f"{'converged' if slope < FLAT else 'not converged'}: gradient {slope:.1e} at the mode",
        seconds=seconds,
    )


def curvature(potential: Potential, point: Tensor) -> Tensor:
    """(P, P) minus the exact Hessian of the log density at coordinates (P,)."""
    u = point.detach().requires_grad_()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        (slope,) = torch.autograd.grad(potential.density(u), u, create_graph=True)
        rows = [torch.autograd.grad(part, u, retain_graph=True)[0] for part in slope]
    hessian = torch.stack(rows)
    return -0.5 * (hessian + hessian.mT)


def _climb(potential: Potential, first: np.ndarray) -> tuple[Tensor, list[float]]:
    """The mode by L-BFGS and then Newton's method, and the density on the way there."""
    from scipy.optimize import minimize

    trace: list[float] = []

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = potential(point)
        trace.append(value)
        return -value, -gradient

    options = {"maxiter": 500, "gtol": 1e-9, "ftol": 1e-15}
    point = minimize(loss, first, jac=True, method="L-BFGS-B", options=options).x
    value, gradient = potential(point)
    for _ in range(NEWTON_STEPS):
        if np.abs(gradient).max() < FLAT * 1e-3:
            break
        step = np.linalg.lstsq(curvature(potential, torch.from_numpy(point)).numpy(), gradient, rcond=None)[0]
        ahead, slope = potential(point + step)
        if not np.abs(slope).max() < np.abs(gradient).max() or ahead < value - 1e-6:
            break
        point, value, gradient = point + step, ahead, slope
        trace.append(value)
    return torch.from_numpy(point), trace
