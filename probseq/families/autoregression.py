"""Autoregression: an observation that depends on the p before it, with parameters that may switch with the state.

    y_t = a_k + phi_{k,1} y_{t-1} + ... + phi_{k,p} y_{t-p} + scale_k e_t,     e_t ~ Normal(0, 1),  k = z_t

(Hamilton 1994, chapter 22; the switching autoregression of Frühwirth-Schnatter 2006, chapter 12). The likelihood is
conditional on the first p observations. The M-step is weighted least squares on the cross products of (1, y, lags):
one linear system where nothing, or the scale too, is shared; where shared coefficients meet scales that switch, the
system and the scales take turns, and no turn lowers the likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from probseq.errors import ModelError
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
from probseq.families.family import NOTHING, Parameters, amount
from probseq.families.gaussian import location_scale_priors

NAMES = ("intercept", "coefficients", "scale")


@dataclass(frozen=True)
class Autoregression(Autoregressive):
    """Gaussian autoregression of order p.

    Args:
        order: p, at least 1.
        shared: which of "intercept", "coefficients" and "scale" are the same in all states.
    """

    kind = "autoregression"
    names = NAMES

    def __post_init__(self) -> None:
        check_options(self.order, self.shared, NAMES)
        if set(self.shared) == set(NAMES):
            raise ModelError("shared must leave a parameter that switches, got all of them; leave one out.")
        object.__setattr__(self, "shared", tuple(self.shared))

    # ---- the law ----

    def emission(
        self, parameters: Parameters, states: tuple[Tensor, ...], context: Tensor | None = None
    ) -> TorchDistributionMixin:
        assert context is not None
        at = {name: chosen(parameters[name], states[0], name in self.shared, name == "coefficients") for name in NAMES}
        return self.distribution(loc=at["intercept"] + (at["coefficients"] * context).sum(-1), scale=at["scale"])

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

    # ---- words ----

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        own = {name: parameters[name] if name in self.shared else parameters[name][state] for name in NAMES}
        return (
            f"intercept {amount(own['intercept'], unit)}, {coefficients_in_words(own['coefficients'])}, "
            f"standard deviation {amount(own['scale'], unit)}"
        )
