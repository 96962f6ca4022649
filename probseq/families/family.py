"""What every emission family offers: a law of one observation given the parameters of a hidden state.

A family is a frozen description without data. Its parameters live in a plain dict of float64 tensors,
state first: `loc` of a Gaussian is (K,), `scale_tril` of a multivariate Gaussian is (K, D, D). A parameter
that all states share (a tied covariance) has no state axis. Wherever a table over states is computed,
further batch axes may stand in front: parameters (B, K, *shape) give a table (B, R, K).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.ops.indexing import Vindex
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from probseq.context import NO_CONTEXT, Context
from probseq.errors import ModelError
from probseq.families import numerical
from probseq.families.linear_form import LinearForm, Natural

NOTHING = 1e-250
"""A total weight so small that dividing by it has no digits left."""

Parameters = Mapping[str, Tensor]
Priors = Mapping[str, TorchDistributionMixin]


def step_name(step: int) -> str:
    """Where a value stands when the caller knows no better: "step 12", counted from 0."""
    return f"step {step}"


@dataclass(frozen=True)
class Parameter:
    """One named parameter of a family.

    Attributes:
        constraint: the set its values live in.
        shape: shape for one state; the tensor is (K, *shape).
        shared: True when all states share one value; the tensor is then of `shape` itself.
    """

    constraint: Constraint
    shape: tuple[int, ...] = ()
    shared: bool = False

    @property
    def free(self) -> int:
        """Free numbers in one value: each simplex of M has M - 1, a Cholesky factor D (D + 1) / 2."""
        if isinstance(self.constraint, type(constraints.simplex)):
            return math.prod(self.shape[:-1]) * (self.shape[-1] - 1)
        if isinstance(self.constraint, type(constraints.lower_cholesky)):
            return self.shape[-1] * (self.shape[-1] + 1) // 2
        return math.prod(self.shape)


@dataclass(frozen=True)
class Family(ABC):
    """A law of one observation, indexed by the parameters of a hidden state.

    The data come as ROWS. Without a context a row is an observation, (R, *event). With one it is (R, W) float64 =
    [y (D numbers, 1 for a single one) | y_{t-1} .. y_{t-p} | design row] (`probseq.context`), in `log_prob`, `cdf`,
    `maximise`, `maximise_posterior`, `expected_log_prob`, `pooled`, `priors`, `bind`, `check` and `degenerate` alike.
    An entry of a partly missing vector is NaN; only families with `partly_missing` are given such rows.

    A family with memory m depends on the last m states: tables and weights are then (R, K^m) over codes
    z_t + K z_{t-1} + ... (`probseq.chains.composite`), and parameters are still one for each state, K in front.
    """

    kind: ClassVar[str]
    event_dim: ClassVar[int] = 0
    context: ClassVar[Context] = NO_CONTEXT  # what a row carries besides the observation
    memory: ClassVar[int] = 1  # m, how many last states the law depends on
    partly_missing: ClassVar[bool] = False  # NaN entries of a vector are summed out; else such a step is missing
    nominal: ClassVar[bool] = False  # observations are symbols, not amounts
    closed_form: ClassVar[bool] = True  # `maximise` needs no iteration, so it is also a start for the posterior mode

    @property
    def name(self) -> str:
        """The name by which `by_name` finds it."""
        return self.kind

    @property
    def discrete(self) -> bool:
        """True when `log_prob` is a log probability rather than a log density."""
        return False

    # ---- the law ----

    @abstractmethod
    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        """The parameters and their shapes for observations of shape `event_shape`."""

    @abstractmethod
    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        """A Pyro distribution whose batch shape is that of the parameters; for `pyro.sample(..., obs=...)`."""

    @abstractmethod
    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        """The emission table, in nats.

        Args:
            values (R, *event): one observation a row; any number type.
            parameters: each (..., K, *shape).

        Returns:
            (..., R, K): log p(values[r] | state k); -inf, with gradient zero, outside the support. Twice
            differentiable in the parameters.
        """

    def emission(
        self, parameters: Parameters, states: tuple[Tensor, ...], context: Tensor | None = None
    ) -> TorchDistributionMixin:
        """The law of the observation at each step given its states, for a Pyro program and for simulation.

        Args:
            parameters: each (..., K, *shape); vectorised particles further left, as (P, 1, K, *shape).
            states: (z_t, z_{t-1}, ...), as many as `memory`; each (..., T) or, enumerated, (C, ..., 1).
            context: (T, W - D) what stands beside the observation, or None without a context. Where a lag is lacking
                it is NaN-free but meaningless, and the step is masked.

        Returns:
            a distribution whose batch shape broadcasts to (..., T).
        """
        chosen = {}
        for name, parameter in self.parameters(self.event_shape_of(parameters)).items():
            value, inner = parameters[name], (slice(None),) * len(parameter.shape)
            chosen[name] = value if parameter.shared else Vindex(value)[(..., states[0], *inner)]
        return self.distribution(**chosen)

    @abstractmethod
    def mean(self, parameters: Parameters) -> Tensor:
        """(K, *event): expected observation of each state."""

    def average(self, parameters: Parameters, weights: Tensor) -> Tensor:
        """(H, *event): the mean of a mixture of states and draws; of angles, the mean direction.

        Args:
            parameters: each (S, K, *shape), S draws; shared ones (S, *shape).
            weights (S, H, K): of the states in each of H mixtures, adding up to one for every draw.
        """
        draws = weights.shape[0]
        mean = torch.stack([self.mean({name: value[s] for name, value in parameters.items()}) for s in range(draws)])
        return torch.einsum("shk,sk...->h...", weights, mean) / draws

    def mean_beside(self, parameters: Parameters, context: Tensor) -> Tensor:
        """(..., R, K, *event): expected observation of each state beside each context row (R, W - D); for forecasts.

        Families whose context is a design alone answer; with lags, forecasts are simulated.
        """
        mean = self.mean(parameters)
        at = mean.dim() - 1 - self.event_dim
        return mean.unsqueeze(at).expand(mean.shape[:at] + context.shape[:1] + mean.shape[at:])

    @abstractmethod
    def variance(self, parameters: Parameters) -> Tensor:
        """(K, *event): variance of each state; inf or NaN where it does not exist."""

    def cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        """(..., R, K): P(X <= values[r] | state k). Not differentiable."""
        return self._tail(values, parameters, self._cdf)

    def survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        """(..., R, K): P(X > values[r] | state k), accurate where `cdf` has rounded to one. Not differentiable."""
        return self._tail(values, parameters, self._survival)

    def _tail(self, values: Tensor, parameters: Parameters, function: Callable[..., Tensor]) -> Tensor:
        with torch.no_grad():
            columns = {name: value.unsqueeze(-2) for name, value in parameters.items()}
            return function(real(values).unsqueeze(-1), columns)

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        """P(X <= values), elementwise under broadcasting."""
        raise ModelError(
            f"the cumulative probability must be asked of a univariate family, got {self.name}; "
            "use its log_prob, or samples from its distribution."
        )

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        """P(X > values), elementwise under broadcasting."""
        return 1 - self._cdf(values, parameters)

    # ---- learning ----

    @abstractmethod
    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """One state's weakly informative prior of each parameter, on the scale of the observed `values` (R, *event)."""

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Callable[[Parameters], Tensor]:
        """The function that an M-step maximises, with the data already reduced to what it needs.

        Args:
            values (R, *event): one observation a row.
            weights (R, K): expected number of times that state k emitted row r.

        Returns:
            a function of the parameters alone, giving (K,): sum_r weights[r, k] log p(values[r] | state k). With a
            memory, where codes share states, each state has an equal part of the sum.
        """

        def objective(parameters: Parameters) -> Tensor:
            table = self.log_prob(values, parameters)
            return self._by_state(torch.where(weights > 0, weights * table, 0.0).sum(-2))

        return objective

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        """Weighted maximum likelihood; the weighted log-likelihood is never below that of `current`.

        Args:
            values (R, *event): one observation a row.
            weights (R, K): expected number of times that state k emitted row r; may hold zeros.
            current: the parameters to improve on. A state without any weight keeps them.

        Returns:
            the parameters, of the shapes of `current`.
        """
        objective = self.expected_log_prob(values, weights)
        declared = self._together(self.parameters(self._event_shape(values)), weights)
        total = self._by_state(weights.sum(0))
        found = numerical.maximise(objective, declared, current, total)
        return numerical.choose(~empty(total), declared, found, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        """Mode of the weighted likelihood times the priors, as densities of the parameters themselves.

        There is no Jacobian, as in Pyro's AutoDelta. Never below the posterior density at `current`; a state without
        any weight goes to the mode of its prior. Arguments as in `maximise`; what `priors` leaves out has a flat one.
        """
        declared = self.parameters(self._event_shape(values))
        likelihood = self.expected_log_prob(values, weights)

        def objective(parameters: Parameters) -> Tensor:
            value = likelihood(parameters)
            return value + numerical.log_prior(priors, parameters, declared, value.shape[-1])

        start, together = dict(current), self._together(declared, weights)
        if self.closed_form:
            start = numerical.better(objective, together, self.maximise(values, weights, current), current)
        return numerical.maximise(objective, together, start, self._by_state(weights.sum(0)) + 1)

    def _states(self, weights: Tensor) -> int:
        """K, out of weights (R, K^m)."""
        return round(weights.shape[-1] ** (1.0 / self.memory))

    def _by_state(self, per_code: Tensor) -> Tensor:
        """(K,) numbers with the sum of (K^m,), each an equal part where codes share states."""
        if self.memory == 1:
            return per_code
        states = self._states(per_code)
        return (per_code.sum(-1, keepdim=True) / states).expand(states)

    def _together(self, declared: dict[str, Parameter], weights: Tensor) -> dict[str, Parameter]:
        """The parameters as ones to find jointly, where states share codes."""
        if self.memory == 1:
            return declared
        states = self._states(weights)
        return {
            name: one if one.shared else Parameter(one.constraint, (states, *one.shape), shared=True)
            for name, one in declared.items()
        }

    # ---- the same by sums alone, for an exponential family ----

    def linear_form(self, values: Tensor) -> LinearForm | None:
        """The statistics (R, P) in which the log-likelihood of each row is linear; None where it is not."""
        return None

    def natural(self, form: LinearForm, parameters: Parameters) -> Natural | None:
        """(..., P, K): what the statistics are multiplied with; None where that would cost digits."""
        return None

    def maximise_sums(
        self, form: LinearForm, sums: Tensor, current: Parameters, priors: Priors | None
    ) -> dict[str, Tensor] | None:
        """`maximise`, or with priors `maximise_posterior`, from sums (P, K) = statistics' @ weights.

        None where the sums alone would cost digits; they are then to be made from the rows.
        """
        return None

    def pooled(self, values: Tensor, states: int) -> dict[str, Tensor]:
        """The maximum likelihood fit of all rows as one state, repeated for every state: a neutral starting point."""
        declared = self.parameters(self._event_shape(values))
        guess = {
            name: prior.mean if declared[name].shared else prior.mean.unsqueeze(0)
            for name, prior in self.priors(values).items()
        }
        ones = torch.ones(values.shape[0], 1, dtype=torch.float64, device=values.device)
        fitted = self.maximise(values, ones, guess)
        return {
            name: value if declared[name].shared else value.expand(states, *value.shape[1:]).clone()
            for name, value in fitted.items()
        }

    # ---- the data ----

    def bind(self, values: Tensor, categories: int | None = None) -> Family:
        """The family with whatever it leaves to the data filled in (the number of categories); itself otherwise."""
        return self

    @abstractmethod
    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        """Refuse data that this law cannot produce or be fitted to.

        Args:
            values (T, *event): the data.
            observed (T, *event) or None: True where measured; None means everywhere.
            columns: what the columns are called, for the message.
            where: turns a step 0..T-1 into words, for the message.

        Raises:
            DataError: naming the first bad value, its place and the remedy.
        """

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        """Why a fitted state has collapsed and is no usable law, in plain words; None when all of them are.

        The likelihood has no bound there, so that the fit means nothing.
        """
        return None

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        """Why a fitted state is another, simpler law, or leaves a parameter undetermined, in plain words; else None.

        The likelihood is bounded there: the fit stands, and this is worth a remark.
        """
        return None

    # ---- words and numbers ----

    @abstractmethod
    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        """One state in plain words: "3% nonzero, mean 4.2 mm when nonzero"."""

    def n_parameters(self, states: int, event_shape: tuple[int, ...] = ()) -> int:
        """Free emission parameters of a model with this many states, for AIC and BIC."""
        return sum(p.free * (1 if p.shared else states) for p in self.parameters(event_shape).values())

    def to_json(self) -> dict[str, Any]:
        """A plain description that `from_json` turns back into an equal family."""
        return {"family": self.kind}

    def event_shape_of(self, parameters: Parameters) -> tuple[int, ...]:
        """The shape of one observation, which only families of vectors need: all of these have a (D, ...) parameter."""
        if self.event_dim == 0:
            return ()
        declared = self.parameters((1,)).items()
        name, parameter = next((name, parameter) for name, parameter in declared if parameter.shape)
        return (int(parameters[name].shape[-len(parameter.shape)]),)

    def _event_shape(self, values: Tensor) -> tuple[int, ...]:
        """The shape of one observation among rows."""
        if self.event_dim and self.context:
            return (self.context.columns(values.shape[-1]),)
        return tuple(values.shape[values.dim() - self.event_dim :])


# ---- small things that the concrete families share ----


def scalar_event(family: Family, event_shape: tuple[int, ...]) -> None:
    """Refuse vector observations for a univariate family."""
    if event_shape:
        raise ModelError(
            f"observations must be single numbers for {family.name}, got shape {tuple(event_shape)} at each step; "
            "choose one column, or use MultivariateGaussian or Independent."
        )


def real(values: Tensor) -> Tensor:
    """Codes and counts as float64; floating numbers as they are."""
    return values if values.is_floating_point() else values.to(torch.float64)


def empty(total: Tensor) -> Tensor:
    """(K,) bool: states whose total weight is zero, or so small that dividing by it has no digits left."""
    return total <= NOTHING


def amount(value: Tensor | float, unit: str = "") -> str:
    """A number to three digits with its unit: "4.25 mm"."""
    return f"{float(value):.3g} {unit}".rstrip()
