"""Hamilton's autoregression on deviations from the mean of the state.

    y_t - mu_{z_t} = phi_1 (y_{t-1} - mu_{z_{t-1}}) + ... + phi_p (y_{t-p} - mu_{z_{t-p}}) + scale e_t

(Hamilton 1989, equation 4.3). The law of a step depends on the last p + 1 states, so that tables are over codes of
those, c = z_t + K z_{t-1} + ... The likelihood is conditional on the first p observations.

The M-step takes turns. Given phi, the observation less its lags is linear in mu with the regressors
1[z_t = k] - sum_i phi_i 1[z_{t-i} = k]; given mu, the deviations are linear in phi; given both, the scale is the root
mean squared residual. Each is a closed form on the cross products of (1, y, lags) by code, and none lowers the expected
log-likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from probseq.families import numerical, scale
from probseq.families.autoregressive import (
    MAX_TURNS,
    SETTLED,
    Autoregressive,
    by_state,
    check_options,
    chosen,
    coefficients_in_words,
    cross_products,
    gain,
    gaussian_sum,
    pooled_scale,
    quadratic,
    residual,
    solve,
    stationary,
)
from probseq.families.family import NOTHING, Parameters, Priors, amount
from probseq.families.gaussian import location_scale_priors

NAMES = ("loc", "coefficients", "scale")


@dataclass(frozen=True)
class DeviationAutoregression(Autoregressive):
    """Gaussian autoregression of order p on deviations from the state's mean `loc`.

    Args:
        order: p, at least 1.
        shared: which of "coefficients" and "scale" are the same in all states; both as in Hamilton (1989).
    """

    kind = "deviation-autoregression"
    names = NAMES

    shared: tuple[str, ...] = ("coefficients", "scale")

    def __post_init__(self) -> None:
        check_options(self.order, self.shared, NAMES[1:])
        object.__setattr__(self, "shared", tuple(self.shared))

    @property
    def memory(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """p + 1 states."""
        return self.order + 1

    # ---- the law ----

    def emission(
        self, parameters: Parameters, states: tuple[Tensor, ...], context: Tensor | None = None
    ) -> TorchDistributionMixin:
        assert context is not None
        means = [chosen(parameters["loc"], state, False, False) for state in states]
        coefficients = chosen(parameters["coefficients"], states[0], "coefficients" in self.shared, True)
        loc = means[0]
        for lag in range(self.order):
            loc = loc + coefficients[..., lag] * (context[:, lag] - means[1 + lag])
        return self.distribution(loc=loc, scale=chosen(parameters["scale"], states[0], "scale" in self.shared, False))

    def _located(self, values: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """Mean (..., R, C) and scale (..., 1, C or 1) of the observation in each row (R, 1 + p) after each code."""
        own, coefficients, width = self._over_codes(parameters)
        return own.unsqueeze(-2) + values[:, 1:] @ coefficients.mT, width.unsqueeze(-2)

    def _over_codes(self, parameters: Parameters) -> tuple[Tensor, Tensor, Tensor]:
        """By code: mu_{z_t} - sum phi_i mu_{z_{t-i}} (..., C); coefficients (..., C or 1, p); scales."""
        last = self._states(parameters["loc"].shape[-1])
        means = parameters["loc"][..., last]  # (..., p + 1, C)
        coefficients, width = parameters["coefficients"], parameters["scale"]
        shared = "coefficients" in self.shared
        coefficients = by_state(coefficients, True, True) if shared else coefficients[..., last[0], :]
        width = by_state(width, True, False) if "scale" in self.shared else width[..., last[0]]
        own = means[..., 0, :] - (coefficients.mT * means[..., 1:, :]).sum(-2)
        return own, coefficients, width

    def _states(self, states: int) -> Tensor:
        """(p + 1, C): the states z_t, z_{t-1}, ... of each code."""
        codes = torch.arange(states ** (self.order + 1))
        return torch.stack([codes // states**back % states for back in range(self.order + 1)])

    def mean(self, parameters: Parameters) -> Tensor:
        return parameters["loc"]

    def variance(self, parameters: Parameters) -> Tensor:
        """(K,): of the deviations, were the state kept; NaN where they have no stationary law."""
        coefficients = by_state(parameters["coefficients"], "coefficients" in self.shared, True)
        width = by_state(parameters["scale"], "scale" in self.shared, False)
        settled = torch.where(stationary(coefficients), gain(coefficients), torch.nan)
        return (settled * width.square()).expand(parameters["loc"].shape)

    # ---- learning ----

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """loc and scale: those of a Gaussian; coefficients: Normal(0, 1) each."""
        zero = torch.zeros(self.order, dtype=torch.float64)
        coefficients = dist.Normal(zero, torch.ones_like(zero)).to_event(1)
        known = location_scale_priors(values[:, 0])
        return {"loc": known["loc"], "coefficients": coefficients, "scale": known["scale"]}

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        """As a function of the parameters, (C,): one number for each code."""
        products = cross_products(values, weights)

        def objective(parameters: Parameters) -> Tensor:
            own, coefficients, width = self._over_codes(parameters)
            return gaussian_sum(products[:, 0, 0], quadratic(products, residual(own, coefficients)), width)

        return objective

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        centre = values.mean()
        products = cross_products(values - centre, weights)
        here = {**current, "loc": current["loc"] - centre}
        floor = scale.FLOOR * scale.spread(values[:, 0])
        objective = self.expected_log_prob(values - centre, weights)
        best = float(objective(here).sum())
        for _ in range(MAX_TURNS):
            turned = self._turn(products, here, floor)
            value = float(objective(turned).sum())
            if not value > best:
                break
            here, gained, best = turned, value - best, value
            if gained <= SETTLED * (1 + abs(value)):
                break
        return {name: here[name] + centre if name == "loc" else here[name] for name in current}

    def _turn(self, products: Tensor, current: Parameters, floor: Tensor) -> dict[str, Tensor]:
        """The means, then the coefficients, then the scales that are best given the others."""
        states = len(current["loc"])
        last = self._states(states)
        total = products[:, 0, 0]
        _, coefficients, width = self._over_codes(current)
        coefficients = coefficients.expand(len(total), -1)
        information = 1.0 / width.expand(len(total)).square()
        member = torch.nn.functional.one_hot(last, states).double()  # (p + 1, C, K)
        regressor = member[0] - torch.einsum("ci,ick->ck", coefficients, member[1:])
        left = products[:, 0, 1] - (coefficients * products[:, 0, 2:]).sum(1)
        gram = torch.einsum("c,ck,cl->kl", information * total, regressor, regressor)
        found = solve(gram, (information * left) @ regressor)
        loc = torch.where(gram.diagonal() > NOTHING, found, current["loc"])
        deviating = torch.cat([-loc[last].mT.unsqueeze(-1), torch.eye(self.order + 1).expand(len(total), -1, -1)], 2)
        moments = deviating @ products @ deviating.mT  # (C, p + 1, p + 1), of the deviations
        coefficients = self._coefficients(moments * information[:, None, None], last[0], current["coefficients"])
        each = coefficients.expand(len(total), -1) if coefficients.dim() == 1 else coefficients[last[0]]
        squares = quadratic(moments, torch.cat([torch.ones_like(each[:, :1]), -each], 1)).clamp_min(0.0)
        zero = torch.zeros(states, dtype=torch.float64)
        by_now = zero.index_add(0, last[0], squares), zero.index_add(0, last[0], total)
        now = pooled_scale(*by_now, "scale" in self.shared, by_now[1] > NOTHING, current["scale"].expand(states))
        now = now.maximum(floor)
        return {"loc": loc, "coefficients": coefficients, "scale": now[0] if "scale" in self.shared else now}

    def _coefficients(self, moments: Tensor, now: Tensor, current: Tensor) -> Tensor:
        """(p,) or (K, p), from the weighted moments of the deviations (C, p + 1, p + 1)."""
        if "coefficients" in self.shared:
            pooled = moments.sum(0)
            return solve(pooled[1:, 1:], pooled[1:, 0])
        zero = torch.zeros(len(current), self.order + 1, self.order + 1, dtype=torch.float64)
        pooled = zero.index_add(0, now, moments)
        live = (pooled[:, 1:, 1:].diagonal(dim1=1, dim2=2).sum(1) > NOTHING).unsqueeze(1)
        return torch.where(live, solve(pooled[:, 1:, 1:], pooled[:, 1:, 0]), current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        """As in `Family`; the means of all states are found together, because a step depends on several."""
        likelihood = self.expected_log_prob(values, weights)

        def objective(parameters: Parameters) -> Tensor:
            prior = sum(priors[name].log_prob(parameters[name]).sum() for name in priors)
            return (likelihood(parameters).sum() + prior).reshape(1)

        together = {name: replace(parameter, shared=True) for name, parameter in self.parameters().items()}
        start = numerical.better(objective, together, self.maximise(values, weights, current), current)
        return numerical.maximise(objective, together, start, weights.sum().reshape(1) + 1)

    # ---- words ----

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        shared = "coefficients" in self.shared
        coefficients = parameters["coefficients"] if shared else parameters["coefficients"][state]
        width = parameters["scale"] if "scale" in self.shared else parameters["scale"][state]
        return (
            f"mean {amount(parameters['loc'][state], unit)}, deviations by {coefficients_in_words(coefficients)}, "
            f"standard deviation {amount(width, unit)}"
        )
