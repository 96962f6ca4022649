"""The last stretch: L-BFGS on the exact log-likelihood from where EM stopped.

EM converges linearly and slows down where states overlap; a quasi-Newton method ends superlinearly (Louis 1982; for
HMMs Turner 2008). The gradient costs no more than an E-step, because it is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from probseq.errors import ModelError
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

MAX_ITERATIONS = 500

FLAT = 1e-3
"""Nats per unit of any coordinate: a gradient below it is that of a maximum."""


def polish(
    model: HMM | ProgramModel, parameters: dict[str, Tensor], series: Sequences, priors: bool
) -> tuple[dict[str, Tensor], float, bool] | None:
    """Parameters with a higher objective, that objective, and whether it is flat there; None where none was found.

    Args:
        model: bound to the series.
        parameters: where to start; zeros among the probabilities stay zero.
        series: the data.
        priors: whether the log prior is part of the objective.
    """
    from scipy.optimize import minimize

    coordinates = model.coordinates(parameters)
    start = coordinates.pack()
    if start.numel() == 0:
        return None

    def objective(u: Tensor) -> Tensor:
        return model.log_joint(coordinates.unpack(u), series, priors)

    loss = _loss(objective, float(series.total_steps))
    first = loss(start.numpy())[0]
    options = {"maxiter": MAX_ITERATIONS, "ftol": 1e-15, "gtol": 1e-10, "maxcor": 30}
    found = minimize(loss, start.numpy(), jac=True, method="L-BFGS-B", options=options)
    if not math.isfinite(found.fun) or found.fun >= first:
        return None
    better = {name: value.detach() for name, value in coordinates.unpack(torch.from_numpy(found.x)).items()}
    if model.degenerate(better, series) is not None:
        return None
    flat = float(np.abs(found.jac).max()) * series.total_steps < FLAT
    return better, -float(found.fun) * series.total_steps, flat


def _loss(objective: Callable[[Tensor], Tensor], scale: float) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Minus the objective a step and its gradient; out of range is +inf, which the line search backs away from."""

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        u = torch.from_numpy(point.copy()).requires_grad_()
        try:
            with torch.enable_grad():
                value = -objective(u) / scale
                (gradient,) = torch.autograd.grad(value, u)
        except (ModelError, ValueError):
            return math.inf, np.zeros_like(point)
        if not (bool(torch.isfinite(value)) and bool(torch.isfinite(gradient).all())):
            return math.inf, np.zeros_like(point)
        return float(value.detach()), gradient.numpy()

    return loss
