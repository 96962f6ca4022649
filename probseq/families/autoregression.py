"""Autoregression: an observation that depends on the p before it, with parameters that may switch with the state.

    y_t = a_k + phi_{k,1} y_{t-1} + ... + phi_{k,p} y_{t-p} + scale_k e_t,     e_t ~ Normal(0, 1),  k = z_t

(Hamilton 1994, chapter 22; the switching autoregression of Frühwirth-Schnatter 2006, chapter 12). The likelihood is
conditional on the first p observations. The M-step is weighted least squares on the cross products of (1, y, lags):
one linear system where nothing, or the scale too, is shared; where shared coefficients meet scales that switch, the
system and the scales take turns, and no turn lowers the likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.ops.indexing import Vindex
from torch import Tensor
from torch.distributions import constraints

from probseq.context import Context
from probseq.errors import ModelError
from probseq.families import checking, numerical, scale
from probseq.families.family import NOTHING, Family, Parameter, Parameters, amount, scalar_event, step_name
from probseq.families.gaussian import LOG_ROOT_TAU, location_scale_priors, normal_below

NAMES = ("intercept", "coefficients", "scale")
MAX_TURNS = 200
SETTLED = 1e-12  # share of the expected log-likelihood that a turn must gain for another to follow


@dataclass(frozen=True)
class Autoregression(Family):
    """Gaussian autoregression of order p.

    Args:
        order: p, at least 1.
        shared: which of "intercept", "coefficients" and "scale" are the same in all states.
    """

    kind = "autoregression"
    order: int = 1
    shared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_options(self.order, self.shared, NAMES)
        if set(self.shared) == set(NAMES):
            raise ModelError("shared must leave a parameter that switches, got all of them; leave one out.")
        object.__setattr__(self, "shared", tuple(self.shared))

    @property
    def context(self) -> Context:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The p observations before."""
        return Context(lags=self.order)

    # ---- the law ----

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        kinds = (constraints.real, constraints.real_vector, constraints.positive)
        shapes = ((), (self.order,), ())
        return {
            name: Parameter(kind, shape, name in self.shared)
            for name, kind, shape in zip(NAMES, kinds, shapes, strict=True)
        }

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        """Of `loc` and `scale`, which `emission` works out of the lags."""
        return dist.Normal(parameters["loc"], parameters["scale"])

    def emission(
        self, parameters: Parameters, states: tuple[Tensor, ...], context: Tensor | None = None
    ) -> TorchDistributionMixin:
        assert context is not None
        at = {name: chosen(parameters[name], states[0], name in self.shared, name == "coefficients") for name in NAMES}
        return self.distribution(loc=at["intercept"] + (at["coefficients"] * context).sum(-1), scale=at["scale"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        loc, width = self._located(values, parameters)
        return -((values[:, :1] - loc) / width).square() / 2 - width.log() - LOG_ROOT_TAU

    def cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            loc, width = self._located(values, parameters)
            return normal_below((values[:, :1] - loc) / width)

    def survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            loc, width = self._located(values, parameters)
            return normal_below((loc - values[:, :1]) / width)

    def _located(self, values: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """Mean (..., R, K) and scale (..., 1, K) of the observation in each row (R, 1 + p)."""
        each = self._each(parameters)
        loc = each["intercept"].unsqueeze(-2) + values[:, 1:] @ each["coefficients"].mT
        return loc, each["scale"].unsqueeze(-2)

    def _each(self, parameters: Parameters) -> dict[str, Tensor]:
        """Every parameter with its state dim, of size one where it is shared."""
        return {name: by_state(parameters[name], name in self.shared, name == "coefficients") for name in NAMES}

    def mean(self, parameters: Parameters) -> Tensor:
        """(K,): mean of the state's own stationary law; NaN where it has none."""
        each = self._each(parameters)
        settled = stationary(each["coefficients"])
        mean = torch.where(settled, each["intercept"] / (1.0 - each["coefficients"].sum(-1)), torch.nan)
        return torch.broadcast_tensors(mean, each["scale"])[0]

    def variance(self, parameters: Parameters) -> Tensor:
        """(K,): variance of the state's own stationary law; NaN where it has none."""
        each = self._each(parameters)
        settled = torch.where(stationary(each["coefficients"]), gain(each["coefficients"]), torch.nan)
        return torch.broadcast_tensors(settled * each["scale"].square(), each["intercept"])[0]

    # ---- learning ----

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """intercept and scale: those of a Gaussian; coefficients: Normal(0, 1) each."""
        known = location_scale_priors(values[:, 0])
        zero = torch.zeros(self.order, dtype=torch.float64)
        coefficients = dist.Normal(zero, torch.ones_like(zero)).to_event(1)
        return {"intercept": known["loc"], "coefficients": coefficients, "scale": known["scale"]}

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        products = cross_products(values, weights)

        def objective(parameters: Parameters) -> Tensor:
            each = self._each(parameters)
            squares = quadratic(products, residual(each["intercept"], each["coefficients"]))
            return gaussian_sum(products[:, 0, 0], squares, each["scale"])

        return objective

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        centre = 0.0 if self.shared == ("intercept",) or self.shared == ("intercept", "scale") else values.mean()
        products = cross_products(values - centre, weights)
        total = products[:, 0, 0]
        live, states = total > NOTHING, len(total)
        if not bool(live.any()):
            return dict(current)
        width = current["scale"].expand(states)
        theta, best = torch.zeros(states, 1 + self.order, dtype=torch.float64), -torch.inf
        floor = scale.FLOOR * scale.spread(values[:, 0])
        for _ in range(MAX_TURNS):
            theta = self._least_squares(products, width, live)
            squares = quadratic(products, residual(theta[:, 0], theta[:, 1:])).clamp_min(0.0)
            width = pooled_scale(squares, total, "scale" in self.shared, live, width).maximum(floor)
            value = float(gaussian_sum(total, squares, width).sum())
            if len(self.shared) == 0 or "scale" in self.shared or value - best <= SETTLED * (1 + abs(value)):
                break
            best = value
        intercept = theta[:, 0] + centre * (1.0 - theta[:, 1:].sum(1))
        found = {"intercept": intercept, "coefficients": theta[:, 1:], "scale": width}
        found = {name: value[live][0] if name in self.shared else value for name, value in found.items()}
        declared, objective = self.parameters(), self.expected_log_prob(values, weights)
        kept = numerical.choose(live, declared, found, current)
        return numerical.better(objective, declared, kept, current)

    def _least_squares(self, products: Tensor, width: Tensor, live: Tensor) -> Tensor:
        """(K, 1 + p) intercept and coefficients of each state that minimise the sum of squares over scale^2."""
        states, size = len(products), 1 + self.order
        rows = [0, *range(2, size + 1)]
        scaled = torch.where(live, 1.0 / width.square(), 0.0)[:, None, None] * products
        gram, right = scaled[:, rows][:, :, rows], scaled[:, rows, 1]
        if not {"intercept", "coefficients"} & set(self.shared):
            return solve(gram, right)
        place = torch.zeros(states, size, dtype=torch.int64)  # where each state's numbers stand in the joint vector
        own_intercept, own_coefficients = "intercept" not in self.shared, "coefficients" not in self.shared
        place[:, 0] = torch.arange(states) if own_intercept else 0
        after = states if own_intercept else 1
        first = torch.arange(states).unsqueeze(1) * self.order if own_coefficients else 0
        place[:, 1:] = after + first + torch.arange(self.order)
        length = int(place.max()) + 1
        joint = torch.zeros(length, length, dtype=torch.float64)
        joint.index_put_(
            (place.unsqueeze(2).expand_as(gram), place.unsqueeze(1).expand_as(gram)), gram, accumulate=True
        )
        target = torch.zeros(length, dtype=torch.float64).index_put_((place,), right, accumulate=True)
        return solve(joint, target)[place]

    # ---- the data ----

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        check_rows(values, self.order, columns, where, "Autoregression")

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return scale.collapsed(parameters["scale"].reshape(-1), values[:, 0])

    # ---- words ----

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        own = {name: parameters[name] if name in self.shared else parameters[name][state] for name in NAMES}
        return (
            f"intercept {amount(own['intercept'], unit)}, {coefficients_in_words(own['coefficients'])}, "
            f"standard deviation {amount(own['scale'], unit)}"
        )

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "order": self.order, "shared": list(self.shared)}


# ---- what the autoregressive families have in common ----


def check_options(order: int, shared: Sequence[str], names: Sequence[str]) -> None:
    """Refuse an order below 1, and names of shared parameters that are none."""
    if not isinstance(order, int) or order < 1:
        raise ModelError(f"order must be an integer of at least 1, got {order!r}; an order of 0 is a Gaussian.")
    unknown = [name for name in shared if name not in names]
    if unknown or isinstance(shared, str):
        raise ModelError(f"shared must name parameters among {', '.join(names)}, got {shared!r}; give a tuple of them.")


def check_rows(values: Tensor, order: int, columns: Sequence[str], where: Callable[[int], str], family: str) -> None:
    """Refuse rows (R, 1 + p) that are not finite numbers of one varying column."""
    if values.dim() != 2 or values.shape[1] != 1 + order:
        checking.require_one_column(values, columns, family)
    checking.require_finite(values[:, 0], None, columns[0], where)
    checking.require_varying(values[:, 0], None, columns[0], family)


def by_state(value: Tensor, shared: bool, vector: bool) -> Tensor:
    """A parameter with its state dim, of size one where it is shared: (..., K) or (..., K, p)."""
    return value.unsqueeze(-2 if vector else -1) if shared else value


def chosen(value: Tensor, state: Tensor, shared: bool, vector: bool) -> Tensor:
    """A parameter at each step's state, (..., T) or (..., T, p)."""
    if shared:
        return value
    return Vindex(value)[(..., state, slice(None))] if vector else Vindex(value)[..., state]


def residual(own: Tensor, coefficients: Tensor) -> Tensor:
    """(..., K, 2 + p): what (1, y, lags) is multiplied with to give y - own - coefficients' lags."""
    shape = torch.broadcast_shapes(own.shape, coefficients.shape[:-1])
    own, coefficients = own.expand(shape).unsqueeze(-1), coefficients.expand(shape + coefficients.shape[-1:])
    return torch.cat([-own, torch.ones_like(own), -coefficients], -1)


def cross_products(values: Tensor, weights: Tensor) -> Tensor:
    """(K, 2 + p, 2 + p): sum over rows of weight times x x', with x = (1, y, lags)."""
    x = torch.cat([torch.ones_like(values[:, :1]), values], 1)
    return torch.einsum("ri,rk,rj->kij", x, weights, x)


def quadratic(products: Tensor, vector: Tensor) -> Tensor:
    """(..., K): v' M v for matrices (K, n, n) and vectors (..., K, n)."""
    return torch.einsum("...ki,kij,...kj->...k", vector, products, vector)


def gaussian_sum(total: Tensor, squares: Tensor, width: Tensor) -> Tensor:
    """(K,): sum of weights times log Normal, from the weights' total and the weighted sum of squared residuals."""
    return -total * (width.log() + LOG_ROOT_TAU) - 0.5 * squares / width.square()


def pooled_scale(squares: Tensor, total: Tensor, shared: bool, live: Tensor, current: Tensor) -> Tensor:
    """(K,): root mean squared residual, of all states together where the scale is shared."""
    if shared:
        return (squares[live].sum() / total[live].sum().clamp_min(NOTHING)).sqrt().expand(len(total))
    return torch.where(live, squares / total.clamp_min(NOTHING), current.square()).sqrt()


def solve(gram: Tensor, right: Tensor) -> Tensor:
    """Solutions (..., n) of symmetric systems (..., n, n), the shortest where there are several."""
    size = gram.diagonal(dim1=-2, dim2=-1).clamp_min(NOTHING).rsqrt()
    scaled = gram * size.unsqueeze(-1) * size.unsqueeze(-2)
    inverse = torch.linalg.pinv(scaled, rtol=1e-13, hermitian=True)
    return size * (inverse @ (size * right).unsqueeze(-1)).squeeze(-1)


def companion(coefficients: Tensor) -> Tensor:
    """(..., p, p): the matrix that carries (y_t, .., y_{t-p+1}) one step on."""
    order = coefficients.shape[-1]
    below = torch.eye(order, dtype=coefficients.dtype)[: order - 1].expand(coefficients.shape[:-1] + (order - 1, order))
    return torch.cat([coefficients.unsqueeze(-2), below], -2)


def stationary(coefficients: Tensor) -> Tensor:
    """(...) bool: whether the roots of the autoregression lie where it has a stationary law."""
    return torch.linalg.eigvals(companion(coefficients)).abs().amax(-1) < 1.0


def gain(coefficients: Tensor) -> Tensor:
    """(...): variance of a stationary autoregression with errors of variance one (Hamilton 1994, 10.2.18)."""
    order = coefficients.shape[-1]
    step = companion(coefficients)
    squared = torch.einsum("...ij,...kl->...ikjl", step, step).reshape(step.shape[:-2] + (order**2, order**2))
    system = torch.eye(order**2, dtype=step.dtype) - squared
    noise = torch.zeros(step.shape[:-2] + (order**2,), dtype=step.dtype)
    noise[..., 0] = 1.0
    solved, info = torch.linalg.solve_ex(system, noise.unsqueeze(-1))
    return torch.where(info == 0, solved[..., 0, 0], torch.nan)


def coefficients_in_words(coefficients: Tensor) -> str:
    """ "coefficients 0.5, -0.1 of the 2 before"."""
    numbers = ", ".join(f"{float(value):.3g}" for value in coefficients)
    before = "the one before" if len(coefficients) == 1 else f"the {len(coefficients)} before"
    return f"{numbers} of {before}"
