"""The generic M-step: maximise a smooth function of parameters dictionaries, one problem a state, never going down.

Few parameters a state: a Newton ascent, batched over states, in unconstrained coordinates u with the exact gradient g
and Hessian H, by automatic differentiation or in closed form. The step is |-H|^-1 g (eigenvalues made positive: Nocedal
& Wright 2006, section 3.4), halved until the objective has risen enough (Armijo). Close to the top, where the objective
no longer resolves the step, full steps go on while the gradient shrinks: that fixes the parameters to about 1e-11.

Many parameters, or parameters shared by all states: L-BFGS on the sum over states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.transforms import ExpTransform, SigmoidTransform, StickBreakingTransform

if TYPE_CHECKING:
    from probseq.families.family import Parameter

Objective = Callable[[Mapping[str, Tensor]], Tensor]
Derivatives = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]  # u (K, P) to value (K,), its gradient and its Hessian

NEWTON_WIDTH = 12  # unconstrained coordinates a state up to which Hessians by autograd are cheaper than L-BFGS
MAX_NEWTON = 100
MAX_HALVINGS = 60
SHORTEST = 2.0**-MAX_HALVINGS
UNRESOLVED = 1e-9  # a predicted rise, relative to the objective, that rounding may hide
DONE = 1e-22  # one that stands for a relative step of 1e-11
ARMIJO = 1e-4
BOUNDED = (ExpTransform, SigmoidTransform, StickBreakingTransform)
FAR = 300.0  # a value on or next to a boundary starts this far out, where exp(-2 FAR), a curvature, is still a number
LONGEST = 100.0  # a step along any axis of curvature: out there the curvature has vanished and says nothing of the way


def maximise(
    objective: Objective,
    declared: Mapping[str, Parameter],
    start: Mapping[str, Tensor],
    total: Tensor,
    derivatives: Derivatives | None = None,
) -> dict[str, Tensor]:
    """A local maximum of the objective, from `start`, never below it.

    Args:
        objective: gives (K,), one number a state, from parameters (K, *shape).
        declared: the constraints and shapes of the parameters.
        start: where to begin.
        total (K,): the weight behind each state, by which its objective is divided to bring it to order one.
        derivatives: the objective's value and derivatives in the unconstrained coordinates, in the order of `declared`,
            where they are known in closed form; None takes them by automatic differentiation.

    Returns:
        parameters of the shapes of `start`; those of a state that cannot be improved are returned untouched.
    """
    start = {name: start[name] for name in declared}
    divisor = total.clamp(min=1e-250)
    coordinates = _Coordinates(declared, start)
    packed = coordinates.pack(start)
    if coordinates.shared or (derivatives is None and coordinates.width > NEWTON_WIDTH):
        packed = _lbfgs(lambda u: objective(coordinates.unpack(u)).sum() / divisor.sum(), packed)
    else:
        packed = _newton(derivatives or by_autograd(lambda u: objective(coordinates.unpack(u))), packed, divisor)
    return better(objective, declared, coordinates.unpack(packed), start)


def better(
    objective: Objective, declared: Mapping[str, Parameter], first: Mapping[str, Tensor], second: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """State by state, whichever of two sets of parameters scores higher; `second` where they tie or `first` is NaN."""
    with torch.no_grad():
        wins = torch.nan_to_num(objective(first), nan=-math.inf) > torch.nan_to_num(objective(second), nan=-math.inf)
        if any(p.shared for p in declared.values()):
            total = objective(first).sum() > objective(second).sum()
            wins = total.expand_as(wins)
    return choose(wins, declared, first, second)


def choose(
    wins: Tensor, declared: Mapping[str, Parameter], first: Mapping[str, Tensor], second: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """`first` for the states marked in `wins` (K,), `second` for the others; shared parameters when any state wins."""

    if bool(wins.all()):
        return {name: first[name].detach() for name in second}

    def pick(name: str) -> Tensor:
        if declared[name].shared:
            return first[name] if bool(wins.any()) else second[name]
        mask = wins.reshape(-1, *[1] * len(declared[name].shape))
        return torch.where(mask, first[name], second[name])

    return {name: pick(name).detach() for name in second}


def log_prior(
    priors: Mapping[str, TorchDistributionMixin],
    parameters: Mapping[str, Tensor],
    declared: Mapping[str, Parameter],
    states: int,
) -> Tensor:
    """(K,): log prior density of each state's parameters; that of a shared parameter is split evenly."""
    result = next(iter(parameters.values())).new_zeros(states)
    for name, prior in priors.items():
        density = prior.log_prob(parameters[name])
        result = result + (density / states if declared[name].shared else density)
    return result


class _Coordinates:
    """The way between parameters and one flat unconstrained vector, per state unless something is shared."""

    def __init__(self, declared: Mapping[str, Parameter], example: Mapping[str, Tensor]) -> None:
        self.transforms = {name: biject_to(declared[name].constraint) for name in example}
        self.shared = any(declared[name].shared for name in example)
        free = {name: transform.inv(example[name]) for name, transform in self.transforms.items()}
        lead = 0 if self.shared else 1
        self.shapes = {name: value.shape[lead:] for name, value in free.items()}
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]
        self.width = sum(self.sizes)

    def pack(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """(K, width), or (width,) when something is shared."""
        lead = (-1,) if self.shared else (next(iter(parameters.values())).shape[0], -1)
        parts = [_in_reach(transform, parameters[name]).reshape(lead) for name, transform in self.transforms.items()]
        return torch.cat(parts, -1).nan_to_num(nan=0.0, posinf=FAR, neginf=-FAR).clamp(-1e300, 1e300).detach()

    def unpack(self, coordinates: Tensor) -> dict[str, Tensor]:
        coordinates = coordinates if self.shared else coordinates.reshape(-1, self.width)
        lead = coordinates.shape[:-1]
        parts = coordinates.split(self.sizes, -1)
        return {
            name: self.transforms[name](part.reshape((*lead, *shape)))
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


def _in_reach(transform: Any, value: Tensor) -> Tensor:
    """The unconstrained coordinates of a value, those of a bounded one no further out than FAR."""
    free = transform.inv(value)
    bounded = isinstance(getattr(transform, "base_transform", transform), BOUNDED)
    return free.clamp(-FAR, FAR) if bounded else free


def _newton(derivatives: Derivatives, start: Tensor, divisor: Tensor) -> Tensor:
    """(K, P): the end of a batched, safeguarded Newton ascent from (K, P), on the objective over `divisor` (K,)."""

    def scaled(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        value, gradient, hessian = derivatives(u)
        return value / divisor, gradient / divisor.unsqueeze(-1), hessian / divisor[:, None, None]

    u = start
    value, gradient, hessian = scaled(u)
    active = torch.isfinite(value) & torch.isfinite(gradient).all(-1) & torch.isfinite(hessian).all((-1, -2))
    length = torch.ones_like(value)
    for _ in range(MAX_NEWTON + MAX_HALVINGS):
        step, concave = _ascent(gradient, hessian, active)
        rise = (step * gradient).sum(-1)
        active = active & (rise > DONE * (1 + value.abs()))
        if not bool(active.any()):
            break
        polish = (rise <= UNRESOLVED * (1 + value.abs())) & concave
        candidate = u + torch.where(active, length, 0.0).unsqueeze(-1) * step
        new_value, new_gradient, new_hessian = scaled(candidate)
        finite = torch.isfinite(new_gradient).all(-1) & torch.isfinite(new_hessian).all((-1, -2))
        # a climb is accepted for rising enough, a polishing step for shrinking the gradient without going down
        calmer = new_gradient.abs().amax(-1) < 0.5 * gradient.abs().amax(-1)
        steady = new_value >= value - 1e-13 * (1 + value.abs())
        climbs = (new_value >= value + ARMIJO * length * rise) & (new_value > value)
        accept = active & finite & torch.where(polish, calmer & steady, climbs)
        u = torch.where(accept.unsqueeze(-1), candidate, u)
        value = torch.where(accept, new_value, value)
        gradient = torch.where(accept.unsqueeze(-1), new_gradient, gradient)
        hessian = torch.where(accept[:, None, None], new_hessian, hessian)
        active = active & (accept | (~polish & (length > SHORTEST)))
        length = torch.where(accept, 1.0, length / 2)
    return u


def by_autograd(objective: Callable[[Tensor], Tensor]) -> Derivatives:
    """Value, gradient and Hessian of (K,) numbers, each depending on its own row of u (K, P): P backward passes do."""

    def derivatives(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            value = objective(u)
            (gradient,) = torch.autograd.grad(value.sum(), u, create_graph=True)
            rows = [torch.autograd.grad(column.sum(), u, retain_graph=True)[0] for column in gradient.unbind(-1)]
        return value.detach(), gradient.detach(), torch.stack(rows, -2)

    return derivatives


def _ascent(gradient: Tensor, hessian: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """The Newton step with every curvature made downward (K, P), and where the Hessian was so already (K,)."""
    safe = torch.where(active[:, None, None], hessian, 0.0)
    curvature, axes = torch.linalg.eigh(-(safe + safe.mT) / 2)
    concave = (curvature > 0).all(-1)
    floor = (1e-10 * curvature.abs().amax(-1, keepdim=True)).clamp(min=1e-300)
    along = (axes.mT @ torch.where(active.unsqueeze(-1), gradient, 0.0).unsqueeze(-1)).squeeze(-1)
    strides = (along / curvature.abs().maximum(floor)).clamp(-LONGEST, LONGEST)
    return (axes @ strides.unsqueeze(-1)).squeeze(-1), concave


def _lbfgs(objective: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """The end of an L-BFGS-B run from `start`, in its shape."""
    from scipy.optimize import minimize

    def descend(flat: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.enable_grad():
            u = torch.from_numpy(flat.copy()).to(start.device).reshape(start.shape).requires_grad_()
            value = -objective(u)
            if not bool(torch.isfinite(value)):
                return math.inf, np.zeros_like(flat)
            (gradient,) = torch.autograd.grad(value, u)
        return value.item(), gradient.reshape(-1).cpu().numpy()

    options = {"maxiter": 1000, "maxfun": 2000, "ftol": 1e-15, "gtol": 1e-11, "maxcor": 20}
    result = minimize(descend, start.reshape(-1).cpu().numpy(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(result.x).to(start.device).reshape(start.shape)
