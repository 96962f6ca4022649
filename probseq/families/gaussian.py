"""Gaussian: closed-form M-steps from three weighted sums.

With weights w[r, k] and a constant c taken off the values first,

    N = sum w,   m = c + sum w (x - c) / N,   SS = sum w (x - c)^2 - N (m - c)^2.

Raw sums of x^2 lose all digits when the mean is large against the spread; c = the overall mean repairs that. States
that are very narrow against the distance between them lose digits still: then, and only then, a second pass over the
data takes each state's own mean.

Default priors and their mode (MAP): loc ~ Normal(m0, t0), scale ~ InverseGamma(a, b). Given loc, the mode of scale is
the positive root of (N + a + 1) s^2 - b s - SS = 0; given scale, that of loc is a precision-weighted mean. The two
alternate on the sums alone, without touching the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.families import checking, numerical, scale
from probseq.families.family import (
    NOTHING,
    Family,
    Parameter,
    Parameters,
    Priors,
    amount,
    empty,
    real,
    scalar_event,
    step_name,
)
from probseq.families.linear_form import LinearForm, Natural

LOG_ROOT_TAU = 0.5 * math.log(2 * math.pi)
PRIOR_SHAPE = 2.0  # of the inverse gamma on scale: its mean exists, its variance does not
REACH = 1e3  # scales from the overall mean up to which second moments may be taken about it
PLAIN = 100.0  # scales from the overall mean within which log-likelihoods may be expanded in powers of x
MAX_ALTERNATIONS = 10_000  # far more than needed: the prior is weak, so a handful do
CANCELLED = 1e4  # SS this much smaller than the term taken off it has lost 4 digits: take the second pass


class Moments(NamedTuple):
    """Weighted sums: total (K,), mean (K, ...) and squares (K, ...) = sum of w (x - mean)^2."""

    total: Tensor
    mean: Tensor
    squares: Tensor


@dataclass(frozen=True)
class Gaussian(Family):
    """Normal law with mean `loc` and standard deviation `scale`."""

    kind = "gaussian"

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        return {"loc": Parameter(constraints.real), "scale": Parameter(constraints.positive)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return dist.Normal(parameters["loc"], parameters["scale"])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        values = real(values)
        loc, width = torch.broadcast_tensors(parameters["loc"], parameters["scale"])
        wanted = torch.is_grad_enabled() and (loc.requires_grad or width.requires_grad)
        if wanted and not values.requires_grad and _near(values, loc, width):
            return _Table.apply(values, loc, width)
        return _table(values, loc, width)

    def linear_form(self, values: Tensor) -> LinearForm | None:
        x = real(values).numpy()
        origin = float(x.mean()) if len(x) else 0.0
        statistics = np.empty((len(x), 3))
        statistics[:, 0], statistics[:, 1] = 1.0, x - origin
        np.square(statistics[:, 1], out=statistics[:, 2])
        return LinearForm(statistics, origin)

    def natural(self, form: LinearForm, parameters: Parameters) -> Natural | None:
        stack: Any
        loc, width = parameters["loc"], parameters["scale"]
        if torch.is_grad_enabled() and (loc.requires_grad or width.requires_grad):
            if not bool(((loc.detach() - form.origin).abs() < PLAIN * width.detach()).all()):
                return None
            log, stack = width.log(), torch.stack
        else:  # K numbers, where numpy costs less
            loc, width = loc.detach().numpy(), width.detach().numpy()
            if not (np.abs(loc - form.origin) < PLAIN * width).all():
                return None
            log, stack = np.log(width), np.stack
        mean, precision = loc - form.origin, 1.0 / (width * width)
        first = mean * precision
        return stack([-0.5 * (first * mean) - log - LOG_ROOT_TAU, first, -0.5 * precision], -2)

    def maximise_sums(
        self, form: LinearForm, sums: Tensor, current: Parameters, priors: Priors | None
    ) -> dict[str, Tensor] | None:
        if priors is not None and not conjugate(priors):
            return None
        found = moments_of_sums(sums, form.origin)
        if found is None:
            return None
        if priors is not None:
            return posterior_step(found, current, priors)
        width = np.sqrt(found.squares.numpy() / np.maximum(found.total.numpy(), NOTHING))
        return {"loc": found.mean, "scale": torch.from_numpy(width)} if _plain(width, found.mean.numpy()) else None

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        return normal_below((values - parameters["loc"]) / parameters["scale"])

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        return normal_below((parameters["loc"] - values) / parameters["scale"])

    def mean(self, parameters: Parameters) -> Tensor:
        return parameters["loc"]

    def variance(self, parameters: Parameters) -> Tensor:
        return parameters["scale"].square()

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """loc: every value lies within one prior standard deviation of the mean. scale: mean half the data's
        spread, no density at zero, a tail so long that it has no variance."""
        return location_scale_priors(real(values))

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        return expected_log_prob(moments(real(values), weights))

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        values = real(values)
        sums = moments(values, weights)
        total, mean, squares = (part.numpy() for part in sums)  # K numbers each, where numpy costs less
        width = np.sqrt(squares / np.maximum(total, NOTHING))
        if _plain(width, mean):
            return {"loc": sums.mean, "scale": torch.from_numpy(width)}
        floor = torch.minimum(scale.FLOOR * scale.spread(values), current["scale"])
        found = {"loc": sums.mean, "scale": torch.from_numpy(width).maximum(floor)}
        return numerical.choose(~empty(sums.total), self.parameters(), found, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        if not conjugate(priors):
            return super().maximise_posterior(values, weights, current, priors)
        return posterior_step(moments(real(values), weights), current, priors)

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        checking.require_one_column(values, columns, "Gaussian")
        checking.require_finite(values, observed, columns[0], where)
        checking.require_varying(values, observed, columns[0], "Gaussian")

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return scale.collapsed(parameters["scale"], real(values))

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        return scale.within_rounding(parameters["scale"], real(values))

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        loc, width = parameters["loc"][state], parameters["scale"][state]
        return f"mean {amount(loc, unit)}, standard deviation {amount(width, unit)}"


def _table(values: Tensor, loc: Tensor, width: Tensor) -> Tensor:
    constant, half = -width.log().unsqueeze(-2) - LOG_ROOT_TAU, (0.5**0.5 / width).unsqueeze(-2)
    deviation = values.unsqueeze(-1) - loc.unsqueeze(-2)
    if torch.is_grad_enabled() and (deviation.requires_grad or half.requires_grad):
        return constant - (deviation * half).square()
    deviation.mul_(half).square_()  # in place: fresh memory costs more than the arithmetic
    return torch.sub(constant, deviation, out=deviation)


class _Table(torch.autograd.Function):
    """`_table` with a backward pass that is the M-step's three sums instead of a pass over (R, K) for every operation.

    With d the gradient by the table, D_j = sum d (x - loc)^j: the gradient by loc is D_1 / scale^2, that by scale
    (D_2 / scale^2 - D_0) / scale. The sums are plain torch, so that second derivatives follow by themselves.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, loc: Tensor, width: Tensor) -> Tensor:
        ctx.save_for_backward(values, loc, width)
        return _table(values, loc, width)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (d,) = gradients
        values, loc, width = ctx.saved_tensors
        centre = values.mean()
        x, m = values - centre, loc - centre
        zeroth, raw_first, raw_second = d.sum(-2), x @ d, (x * x) @ d
        first = raw_first - m * zeroth
        second = raw_second - m * (raw_first + first)
        variance = width.square()
        return None, first / variance, (second / variance - zeroth) / width


def _near(values: Tensor, loc: Tensor, width: Tensor) -> bool:
    """True when no state is so far out, in its own scales, that centred sums would cost it more than 6 digits."""
    with torch.no_grad():
        return values.numel() > 0 and bool(((loc - values.mean()).abs() < REACH * width).all())


def normal_below(deviation: Tensor) -> Tensor:
    """P(Z <= deviation) for a standard normal, accurate in the lower tail, where torch's own rounds to zero."""
    return 0.5 * torch.erfc(deviation * -(0.5**0.5))


def moments(values: Tensor, weights: Tensor) -> Moments:
    """Weighted sums of `values` (R,) under `weights` (R, K), safe from cancellation; an empty state has mean 0."""
    centre = float(values.mean()) if values.numel() else 0.0
    x = values - centre
    sums = weights.sum(0), x @ weights, (x * x) @ weights
    total, first, second = (part.numpy() for part in sums)  # from here K numbers each, where numpy costs less
    without = total <= NOTHING
    mean = first / np.where(without, 1.0, total)
    squares = second - first * mean
    if (CANCELLED * squares < first * mean).any():
        squares = ((x.unsqueeze(-1) - torch.from_numpy(mean)).square() * weights).sum(0).numpy()
    mean = np.where(without, 0.0, centre + mean)
    return Moments(sums[0], torch.from_numpy(mean), torch.from_numpy(np.maximum(squares, 0.0)))


def moments_of_sums(sums: Tensor, origin: float) -> Moments | None:
    """The moments from the sums (3, K) of w, w (x - origin), w (x - origin)^2; None where they have lost digits."""
    total, first, second = sums.numpy()
    if total.min() <= NOTHING:
        return None
    mean = first / total
    squares = second - first * mean
    if (CANCELLED * squares < first * mean).any():
        return None
    return Moments(sums[0], torch.from_numpy(origin + mean), torch.from_numpy(squares))


def _plain(width: np.ndarray, mean: np.ndarray) -> bool:
    """True when no state is so narrow against the others that it might be collapsing."""
    return bool(width.min() > scale.NARROW * (width.max() + mean.max() - mean.min()))


def expected_log_prob(sums: Moments) -> Callable[[Parameters], Tensor]:
    """(K,): sum_r w[r, k] log Normal(x_r; loc_k, scale_k), from the moments alone."""

    def objective(parameters: Parameters) -> Tensor:
        loc, width = parameters["loc"], parameters["scale"]
        squares = sums.squares + sums.total * (sums.mean - loc).square()
        return -sums.total * (width.log() + LOG_ROOT_TAU) - 0.5 * squares / width.square()

    return objective


def location_scale_priors(values: Tensor) -> dict[str, TorchDistributionMixin]:
    """Normal(mean, range) on loc, InverseGamma(2, spread / 2) on scale, for values (R,)."""
    if values.numel() == 0:
        values = values.new_zeros(1)
    width = scale.spread(values)
    reach = (values.max() - values.min()).maximum(width)
    shape = torch.full_like(width, PRIOR_SHAPE)
    return {"loc": dist.Normal(values.mean(), reach), "scale": scale.InverseGamma(shape, width / 2)}


def conjugate(priors: Priors) -> bool:
    """True for exactly the two laws whose conditional modes are known in closed form."""
    kinds = {"loc": dist.Normal, "scale": dist.InverseGamma}
    return priors.keys() == kinds.keys() and all(isinstance(priors[name], kind) for name, kind in kinds.items())


def posterior_step(sums: Moments, current: Parameters, priors: Priors) -> dict[str, Tensor]:
    """The mode under conjugate priors, never below the posterior density at `current`."""
    likelihood, declared = expected_log_prob(sums), Gaussian().parameters()

    def objective(parameters: Parameters) -> Tensor:
        return likelihood(parameters) + sum(priors[name].log_prob(parameters[name]) for name in priors)

    found = posterior_mode(sums, priors, sums.mean)
    chosen = numerical.better(objective, declared, found, current)
    if bool((chosen["loc"] == found["loc"]).all()):
        return chosen
    again = posterior_mode(sums, priors, current["loc"])  # a second mode: climb from where we stand
    return numerical.better(objective, declared, again, chosen)


def posterior_mode(sums: Moments, priors: Priors, loc: Tensor) -> dict[str, Tensor]:
    """Alternate the two conditional modes from `loc` until they stand still; no step lowers the posterior density."""
    prior_loc, prior_scale = priors["loc"], priors["scale"]
    precision = prior_loc.scale.square().reciprocal()  # type: ignore[attr-defined]
    centre = prior_loc.loc  # type: ignore[attr-defined]
    weight = sums.total + prior_scale.concentration + 1  # type: ignore[attr-defined]
    rate = prior_scale.rate  # type: ignore[attr-defined]
    loc = width = torch.where(empty(sums.total), centre, loc)
    for _ in range(MAX_ALTERNATIONS):
        squares = sums.squares + sums.total * (sums.mean - loc).square()
        width = (rate + (rate * rate + 4 * weight * squares).sqrt()) / (2 * weight)
        information = sums.total / width.square()
        previous, loc = loc, (information * sums.mean + precision * centre) / (information + precision)
        if bool(((loc - previous).abs() <= 1e-13 * (loc.abs() + width)).all()):
            break
    return {"loc": loc, "scale": width}
