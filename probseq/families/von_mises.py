"""Von Mises: angles around a direction, p(x) = exp(k cos(x - m)) / (2 pi I_0(k)); wind direction, time of day.

The weighted sums N, C = sum w cos x and S = sum w sin x are all that the data say: the direction is that of (C, S), and
the concentration solves I_1(k) / I_0(k) = |(C, S)| / N (Mardia & Jupp 2000, section 5.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution, TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from probseq.errors import ModelError
from probseq.families import checking, circle, numerical, scale
from probseq.families.family import Family, Parameter, Parameters, amount, empty, real, scalar_event, step_name

TURN = 2 * math.pi
HIGHEST = 1e14  # of an ML concentration: a spread of 1e-7 radians
UNIFORM = 1e-3  # a concentration below it is reported: the density varies by 0.1% around the circle
TURNS = 4  # angles further out are refused, as degrees are
REACH = 20.0  # how far beyond the pooled concentration its prior begins to fall


class CircularVonMises(TorchDistribution):
    """Von Mises on a circle of any period, to all digits.

    Args:
        loc: the direction, in the unit of the values.
        concentration: k >= 0.
        period: of the circle, such as 2 pi or 360.
        start: where draws and the cumulative distribution begin; they end at start + period.
    """

    arg_constraints = {  # type: ignore
        "loc": constraints.real,
        "concentration": constraints.nonnegative,
        "period": constraints.positive,
        "start": constraints.real,
    }
    support = constraints.real  # type: ignore

    def __init__(
        self,
        loc: Tensor,
        concentration: Tensor,
        period: Tensor | float,
        start: Tensor | float,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.concentration, self.period, self.start = broadcast_all(loc, concentration, period, start)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new: Any = self._get_checked_instance(CircularVonMises, _instance)
        for name in self.arg_constraints:
            setattr(new, name, getattr(self, name).expand(batch_shape))
        super(CircularVonMises, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        """The circular one, which is `loc`."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """The circular one, 1 - I_1(k) / I_0(k), from 0 to 1."""
        return circle.spread(self.concentration)

    def sample(self, sample_shape=torch.Size()):  # noqa: B008 - torch's own signature
        with torch.no_grad():
            zero = torch.zeros_like(self.loc)
            turned = dist.VonMises(zero, self.concentration.clamp(min=1e-8)).sample(sample_shape) / TURN * self.period
            return self.start + torch.remainder(turned + self.loc - self.start, self.period)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return log_density(value, self.loc, self.concentration, self.period)

    def cdf(self, value: Tensor) -> Tensor:
        return _arc(value, self.loc, self.concentration, self.period, self.start, upper=False)


@dataclass(frozen=True)
class VonMises(Family):
    """Angles around the direction `loc`, the closer the larger `concentration` is; whole turns make no difference.

    The density is per unit of angle and the same at x and x + period. Quantiles, the cumulative distribution, draws and
    `loc` need a place where the circle is cut open: `start`. The mean is the circular one.

    Attributes:
        period: one turn in the unit of the data: 2 pi for radians, 360 for degrees, 24 for hours of the day.
        start: where a turn begins; None takes it from the data through `bind`: 0 when no angle is negative, else minus
            half a turn.
    """

    kind = "von-mises"
    period: float = TURN
    start: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.period) and self.period > 0):
            raise ModelError(
                f"period must be a number > 0, got {self.period!r} at VonMises; give 2 pi for radians, 360 for degrees."
            )

    @property
    def name(self) -> str:
        return self.kind if self.period == TURN else f"{self.kind}-{self.period:g}"

    @property
    def _start(self) -> float:
        return -self.period / 2 if self.start is None else self.start

    def bind(self, values: Tensor, categories: int | None = None) -> VonMises:
        if self.start is not None:
            return self
        positive = values.numel() > 0 and bool((values >= 0).all())
        return VonMises(self.period, 0.0 if positive else -self.period / 2)

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        return {"loc": Parameter(constraints.real), "concentration": Parameter(constraints.positive)}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return CircularVonMises(parameters["loc"], parameters["concentration"], self.period, self._start)

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        loc, concentration = parameters["loc"].unsqueeze(-2), parameters["concentration"].unsqueeze(-2)
        return log_density(real(values).unsqueeze(-1), loc, concentration, self.period)

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        return _arc(values, parameters["loc"], parameters["concentration"], self.period, self._start, upper=False)

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        return _arc(values, parameters["loc"], parameters["concentration"], self.period, self._start, upper=True)

    def mean(self, parameters: Parameters) -> Tensor:
        """(K,): the mean direction `loc`."""
        return parameters["loc"]

    def average(self, parameters: Parameters, weights: Tensor) -> Tensor:
        """(H,): the direction of the mean resultant."""
        every = {name: parameters[name].flatten() for name in ("loc", "concentration")}
        return self.direction(every, weights.transpose(0, 1).flatten(1) / weights.shape[0])

    def direction(self, parameters: Parameters, weights: Tensor) -> Tensor:
        """(...): the mean direction of a mixture of M laws, from parameters and weights (..., M)."""
        return self._within_turn(self.resultant(parameters, weights).angle() * (self.period / TURN))

    def resultant(self, parameters: Parameters, weights: Tensor) -> Tensor:
        """(...), complex: the mean of exp(i x) in a mixture of M laws."""
        length = 1 - circle.spread(parameters["concentration"])
        return (weights * torch.polar(length, parameters["loc"] * (TURN / self.period))).sum(-1)

    def _within_turn(self, angle: Tensor) -> Tensor:
        return self._start + torch.remainder(angle - self._start, self.period)

    def variance(self, parameters: Parameters) -> Tensor:
        """(K,): the circular variance, 1 minus the mean resultant length: 0 for one direction, 1 for all alike."""
        return circle.spread(parameters["concentration"])

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """loc: von Mises with k = 0.1 about the pooled direction, all but uniform. concentration: almost flat up to 20
        times the pooled estimate, exponential beyond."""
        values = real(values)
        ones = torch.ones(len(values), 1, dtype=torch.float64, device=values.device)
        pooled = self._estimate(values, ones)
        typical = pooled["concentration"][0].clamp(1.0, HIGHEST)
        direction = CircularVonMises(pooled["loc"][0], torch.full_like(typical, 0.1), self.period, self._start)
        return {"loc": direction, "concentration": dist.Gamma(torch.full_like(typical, 1.1), 1 / (REACH * typical))}

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        angle = real(values) * (TURN / self.period)
        total, cosines, sines = weights.sum(0), torch.cos(angle) @ weights, torch.sin(angle) @ weights

        def objective(parameters: Parameters) -> Tensor:
            turned, k = parameters["loc"] * (TURN / self.period), parameters["concentration"]
            along = cosines * torch.cos(turned) + sines * torch.sin(turned)
            return k * (along - total) - total * (circle.log_bessel(k) + math.log(self.period))

        return objective

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        found = self._estimate(real(values), weights)
        return numerical.choose(~empty(weights.sum(0)), self.parameters(), found, current)

    def _estimate(self, values: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """The maximum likelihood; the circular variance is taken about the direction, where it keeps its digits."""
        unit, total = TURN / self.period, weights.sum(0)
        angle = values * unit
        direction = torch.atan2(torch.sin(angle) @ weights, torch.cos(angle) @ weights)
        chord = 2 * torch.sin((angle.unsqueeze(-1) - direction) / 2).square()
        variance = (chord * weights).sum(0) / torch.where(empty(total), 1.0, total)
        return {
            "loc": self._within_turn(direction / unit),
            "concentration": circle.concentration_of(variance.clamp(0, 1), HIGHEST),
        }

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        checking.require_one_column(values, columns, "VonMises")
        checking.require_finite(values, observed, columns[0], where)
        checking.require_varying(values, observed, columns[0], "VonMises")
        rule = f"be an angle of at most {TURNS} turns of {self.period:.4g} for VonMises"
        remedy = "use VonMises(period=360), von-mises-360 by name, for degrees; or take the angle modulo one turn"
        near = real(values).abs() <= TURNS * self.period
        checking.require(near, values, observed, columns[0], rule, remedy, where)

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return scale.collapsed(self._width(parameters), real(values), "spread")

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        for state, size in enumerate(parameters["concentration"].tolist()):
            if size < UNIFORM:
                return (
                    f"state {state} is uniform around the circle: its concentration is {size:.2g}, so that its "
                    "direction is left undetermined; use fewer states, or the default priors"
                )
        return scale.within_rounding(self._width(parameters), real(values), "spread")

    def _width(self, parameters: Parameters) -> Tensor:
        """(K,): the standard deviation of a narrow state, in the unit of the data."""
        return parameters["concentration"].rsqrt() * (self.period / TURN)

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        loc, size = parameters["loc"][state], parameters["concentration"][state]
        length = 1 - circle.spread(size)
        return f"direction {amount(loc, unit)}, concentration {amount(size)} (mean resultant {amount(length)})"

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "period": self.period, "start": self.start}


def log_density(value: Tensor, loc: Tensor, concentration: Tensor, period: Tensor | float) -> Tensor:
    """log p(value), elementwise under broadcasting: k (cos d - 1) loses no digits as -2 k sin(d / 2)^2."""
    deviation = (value - loc) * (TURN / period)
    fall = 2 * torch.sin(deviation / 2).square()
    turn = period.log() if isinstance(period, Tensor) else math.log(period)
    return -concentration * fall - circle.log_bessel(concentration) - turn


def _arc(value: Tensor, loc: Tensor, k: Tensor, period: Any, start: Any, upper: bool) -> Tensor:
    """P(X <= value) or P(X > value) on the circle cut at `start`: the chance of an arc."""
    x = ((value - start) / period).clamp(0, 1) * TURN
    cut = -torch.remainder((loc - start) * (TURN / period), TURN)  # in (-2 pi, 0]
    arc = _above(cut + x, k) - _above(cut + TURN, k) if upper else _above(-cut - x, k) - _above(-cut, k)
    return arc.clamp(0, 1)


def _above(deviation: Tensor, concentration: Tensor) -> Tensor:
    """The chance of the arc from `deviation`, within two turns of the direction, up to pi; negative from beyond pi."""
    near = deviation.abs() <= math.pi
    wrapped = torch.where(near, deviation.abs(), TURN - deviation.abs()).clamp(0, math.pi)
    tail = circle.upper_tail(wrapped, concentration)
    return torch.where(near, torch.where(deviation < 0, 1 - tail, tail), torch.where(deviation < 0, 1 + tail, -tail))
