"""Families with an extra chance of exactly zero: a dry day is a point mass at zero, a wet day a gamma.

Hurdle, with pi = P(X != 0) and inner law f:

    p(0) = 1 - pi,    p(x) = pi f(x) for a continuous f,    p(x) = pi f(x) / (1 - f(0)) for a law of counts.

ZeroInflated, with phi = P(structural zero):

    p(0) = phi + (1 - phi) f(0)  (f(0) = 0 for a continuous f),    p(x) = (1 - phi) f(x).

Around a continuous law the density is against (point mass at 0) + (Lebesgue measure). The two are one law in two sets
of parameters, pi = (1 - phi) (1 - f(0)), but for the bound phi >= 0: so the ML fit of the zero-inflated law is that of
the hurdle wherever that has phi >= 0, and the plain inner law elsewhere. (Mullahy 1986; Lambert 1992.)
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.errors import DataError, ModelError
from probseq.families import checking, numerical
from probseq.families.family import Family, Parameter, Parameters, Priors, amount, empty, real, step_name
from probseq.families.special import log1mexp, safe_log, safe_log1m
from probseq.families.symbols import beta_mode, probability_prior, refuse_symbols
from probseq.families.zero_laws import HurdleDistribution, ZeroInflatedDistribution

NEVER = 1e-5  # a chance of nonzero below which zero-truncation has used up the inner law's parameters
Objective = Callable[[Parameters], Tensor]


@dataclass(frozen=True)
class ZeroFamily(Family):
    """What hurdle and zero-inflated families share.

    Attributes:
        inner: the family around which the zero is put.
    """

    inner: Family

    chance = "nonzero"  # the name of the added parameter

    def __post_init__(self) -> None:
        outer = type(self).__name__
        if isinstance(self.inner, ZeroFamily) or not isinstance(self.inner, Family):
            raise ModelError(
                f"{outer} must wrap a family without an extra zero, got {self.inner!r}; write {outer}(Gamma()), say."
            )
        refuse_symbols(outer, self.inner)
        checking.require_plain(outer, self.inner)
        if self.inner.kind in ("mixture", "product"):
            raise ModelError(
                f"{outer} must stand inside a {self.inner.kind}, got {self.inner.name} at inner; "
                f"write Mixture({outer}(Gamma()), 2), or give it to a column of Product."
            )

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.inner.name}"

    @property
    def discrete(self) -> bool:
        return self.inner.discrete

    @property
    def event_dim(self) -> int:
        return self.inner.event_dim

    @property
    def closed_form(self) -> bool:
        return self.inner.closed_form and not self.discrete

    def bind(self, values: Tensor, categories: int | None = None) -> Family:
        return type(self)(self.inner.bind(values, categories))

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        return {self.chance: Parameter(constraints.unit_interval), **self.inner.parameters(event_shape)}

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "inner": self.inner.to_json()}

    def n_parameters(self, states: int, event_shape: tuple[int, ...] = ()) -> int:
        return states + self.inner.n_parameters(states, event_shape)

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        measured = checking.measured(values, observed)
        checking.require_measured(values, observed, columns[0])
        if bool((values[measured] == 0).all()):
            raise DataError(
                f"{columns[0]} must be nonzero at least once for {self.name}, got 0 at all "
                f"{int(measured.sum())} measured steps; provide more data, or drop this column."
            )
        nonzero = ~self._zero(values)
        self.inner.check(values, measured & (nonzero.unsqueeze(-1) if self.event_dim else nonzero), columns, where)

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        inside = values if self.discrete else values[~self._zero(values)]
        return self.inner.degenerate(self._inner(parameters), inside)

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        for state, chance in enumerate(self._nonzero(parameters).tolist()):
            if chance == 0:
                return (
                    f"state {state} is zero throughout: its {self.inner.name} part is left undetermined; "
                    "use fewer states, or the default priors"
                )
        inside = values if self.discrete else values[~self._zero(values)]
        return self.inner.at_limit(self._inner(parameters), inside)

    def _cdf_of(self, inner: Parameters) -> Callable[[Tensor, Tensor | None], Tensor]:
        """The inner cdf at these parameters, everywhere or at the places of a mask alone."""

        def cdf(value: Tensor, at: Tensor | None = None) -> Tensor:
            with torch.no_grad():
                chosen = inner if at is None else {name: one.expand(at.shape)[at] for name, one in inner.items()}
                return self.inner._cdf(value, chosen)

        return cdf

    def _zero(self, values: Tensor) -> Tensor:
        """(R,) bool: rows that are exactly zero, in every column."""
        zero = values == 0
        return zero.all(-1) if self.event_dim else zero

    def _inner(self, parameters: Parameters) -> dict[str, Tensor]:
        return {name: value for name, value in parameters.items() if name != self.chance}

    def _table(self, values: Tensor, parameters: Parameters, zero: Tensor, offset: Tensor) -> Tensor:
        """The table (..., R, K): `zero` (..., 1, K) in zero rows, the inner log_prob plus `offset` in the others."""
        rows = (~self._zero(values)).nonzero().squeeze(-1)
        above = self.inner.log_prob(values[rows], self._inner(parameters))
        possible = above.numel() == 0 or bool(above.detach().amin() > -math.inf)
        raised = above + offset if possible else torch.where(above == -math.inf, above, above + offset)
        if rows.numel() == values.shape[0]:
            return raised
        base = zero.expand(*raised.shape[:-2], values.shape[0], raised.shape[-1])
        return base.index_copy(-2, rows, raised)

    def _log_none(self, values: Tensor, parameters: Parameters) -> Tensor:
        """(..., 1, K): log P(inner = 0) of a law of counts."""
        return self.inner.log_prob(values.new_zeros(1, dtype=torch.float64), self._inner(parameters))

    def _split(self, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Nonzero rows and their weights (M, K), and the total weight (K,) of zeros and of nonzeros."""
        zero = self._zero(values)
        kept = weights[~zero]
        return values[~zero], kept, weights[zero].sum(0), kept.sum(0)

    @abstractmethod
    def _nonzero(self, parameters: Parameters) -> Tensor:
        """(K,): P(X != 0), or for a zero-inflated law the chance that the inner law speaks."""


@dataclass(frozen=True)
class Hurdle(ZeroFamily):
    """Zero with chance `1 - nonzero`, otherwise the inner law given that it is not zero.

    >>> from probseq.families import Gamma
    >>> list(Hurdle(Gamma()).parameters())
    ['nonzero', 'concentration', 'rate']
    """

    kind = "hurdle"

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        inner = self._inner(parameters)
        return HurdleDistribution(parameters["nonzero"], self.inner.distribution(**inner), self._cdf_of(inner))

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        nonzero = parameters["nonzero"].unsqueeze(-2)
        above = safe_log(nonzero)
        if self.discrete:
            above = above - log1mexp(self._log_none(values, parameters))
        return self._table(values, parameters, safe_log1m(nonzero), above)

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        nonzero, inner = parameters["nonzero"], self.inner._cdf(values, self._inner(parameters))
        if self.discrete:
            none = self.inner._cdf(torch.zeros_like(values), self._inner(parameters))
            inner = (inner - none).clamp(min=0) / (1 - none)
        return nonzero * inner + torch.where(values >= 0, 1 - nonzero, 0.0)

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        nonzero, inner = parameters["nonzero"], self.inner._survival(values, self._inner(parameters))
        if self.discrete:
            some = self.inner._survival(torch.zeros_like(values), self._inner(parameters))
            inner = (inner / some).clamp(max=1)
        return nonzero * inner + torch.where(values < 0, 1 - nonzero, 0.0)

    def mean(self, parameters: Parameters) -> Tensor:
        return self._share(parameters) * self.inner.mean(self._inner(parameters))

    def variance(self, parameters: Parameters) -> Tensor:
        inner = self._inner(parameters)
        square = self.inner.variance(inner) + self.inner.mean(inner).square()
        return self._share(parameters) * square - self.mean(parameters).square()

    def _share(self, parameters: Parameters) -> Tensor:
        """(K,) or (K, 1): nonzero, over the inner law's own chance of it."""
        share = parameters["nonzero"]
        if self.discrete:
            share = share / -torch.expm1(self._log_none(share, parameters).squeeze(-2))
        return share.unsqueeze(-1) if self.event_dim else share

    def _nonzero(self, parameters: Parameters) -> Tensor:
        return parameters["nonzero"]

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        reason = super().at_limit(parameters, values)
        if reason or not self.discrete:
            return reason
        some = -torch.expm1(self._log_none(values, parameters).squeeze(-2))
        for state, chance in enumerate(some.tolist()):
            if chance < NEVER:
                return (
                    f"state {state} has a {self.inner.name} part that is zero but for a chance of {chance:.2g}: its "
                    "parameters are at their limit; use Categorical(), or the default priors"
                )
        return None

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """nonzero: worth a tenth of a zero and of a nonzero. The rest: the inner family's, on the nonzero values."""
        return {"nonzero": probability_prior(real(values)), **self.inner.priors(values[~self._zero(values)])}

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Objective:
        above, kept, zeros, nonzeros = self._split(values, weights)
        size = self._size(above, kept, nonzeros)

        def objective(parameters: Parameters) -> Tensor:
            nonzero = parameters["nonzero"]
            below = torch.where(zeros > 0, zeros * safe_log1m(nonzero), 0.0)
            return below + torch.where(nonzeros > 0, nonzeros * safe_log(nonzero), 0.0) + size(self._inner(parameters))

        return objective

    def _size(self, above: Tensor, kept: Tensor, nonzeros: Tensor) -> Objective:
        """What the nonzero rows say about the inner parameters: the (truncated) inner log-likelihood (K,)."""
        inner = self.inner.expected_log_prob(above, kept)
        if not self.discrete:
            return inner
        return lambda parameters: inner(parameters) - nonzeros * log1mexp(self._log_none(above, parameters)[0])

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        above, kept, zeros, nonzeros = self._split(values, weights)
        total = zeros + nonzeros
        nonzero = (nonzeros / torch.where(empty(total), 1.0, total)).clamp(max=1)
        found = {"nonzero": torch.where(empty(total), current["nonzero"], nonzero)}
        started = self._inner(current)
        if not self.discrete:
            return found | self.inner.maximise(above, kept, started)
        declared = self.inner.parameters(self._event_shape(values))
        size = self._size(above, kept, nonzeros)
        start = started
        if self.inner.closed_form:  # the untruncated fit, which is close when zeros are rare
            start = numerical.better(size, declared, self.inner.maximise(above, kept, started), started)
        inner = numerical.maximise(size, declared, start, nonzeros)
        return found | numerical.choose(~empty(nonzeros), declared, inner, started)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        above, kept, zeros, nonzeros = self._split(values, weights)
        nonzero = beta_mode(nonzeros, zeros + nonzeros, priors.get("nonzero"))
        if nonzero is None:
            return super().maximise_posterior(values, weights, current, priors)
        found = {"nonzero": nonzero}
        started = self._inner(current)
        inner_priors = {name: prior for name, prior in priors.items() if name != "nonzero"}
        if not self.discrete:
            return found | self.inner.maximise_posterior(above, kept, started, inner_priors)
        declared = self.inner.parameters(self._event_shape(values))
        size = self._size(above, kept, nonzeros)

        def objective(parameters: Parameters) -> Tensor:
            return size(parameters) + numerical.log_prior(inner_priors, parameters, declared, len(nonzeros))

        return found | numerical.maximise(objective, declared, started, nonzeros + 1)

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        share = f"{100 * float(parameters['nonzero'][state]):.3g}% nonzero"
        if self.discrete:
            mean = self.mean(parameters)[state] / parameters["nonzero"][state]
            return f"{share}, mean count {amount(mean, unit)} when nonzero"
        return f"{share}, {self.inner.describe(self._inner(parameters), state, unit)} when nonzero"


@dataclass(frozen=True)
class ZeroInflated(ZeroFamily):
    """Zero with chance `inflation`, otherwise the inner law, which may be zero too."""

    kind = "zero-inflated"
    chance = "inflation"

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        inner = self._inner(parameters)
        return ZeroInflatedDistribution(parameters["inflation"], self.inner.distribution(**inner), self._cdf_of(inner))

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        speaks = safe_log1m(parameters["inflation"].unsqueeze(-2))
        return self._table(values, parameters, self._log_zero(values, parameters), speaks)

    def _log_zero(self, values: Tensor, parameters: Parameters) -> Tensor:
        """(..., 1, K): log P(X = 0)."""
        inflation = parameters["inflation"].unsqueeze(-2)
        if not self.discrete:
            return safe_log(inflation)
        return torch.logaddexp(safe_log(inflation), safe_log1m(inflation) + self._log_none(values, parameters))

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        inflation, inner = parameters["inflation"], self.inner._cdf(values, self._inner(parameters))
        return (1 - inflation) * inner + torch.where(values >= 0, inflation, 0.0)

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        inflation, inner = parameters["inflation"], self.inner._survival(values, self._inner(parameters))
        return (1 - inflation) * inner + torch.where(values < 0, inflation, 0.0)

    def mean(self, parameters: Parameters) -> Tensor:
        return self._share(parameters) * self.inner.mean(self._inner(parameters))

    def variance(self, parameters: Parameters) -> Tensor:
        inner = self._inner(parameters)
        square = self.inner.variance(inner) + self.inner.mean(inner).square()
        return self._share(parameters) * square - self.mean(parameters).square()

    def _share(self, parameters: Parameters) -> Tensor:
        share = 1 - parameters["inflation"]
        return share.unsqueeze(-1) if self.event_dim else share

    def _nonzero(self, parameters: Parameters) -> Tensor:
        return 1 - parameters["inflation"]

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """inflation: Beta(1.1, 1.1). The rest: the inner family's, on the values that it can have drawn."""
        seen = values if self.discrete else values[~self._zero(values)]
        return {"inflation": probability_prior(real(values)), **self.inner.priors(seen)}

    def expected_log_prob(self, values: Tensor, weights: Tensor) -> Objective:
        above, kept, zeros, nonzeros = self._split(values, weights)
        inner = self.inner.expected_log_prob(above, kept)

        def objective(parameters: Parameters) -> Tensor:
            none = self._log_zero(above, parameters)[0]
            speaks = torch.where(nonzeros > 0, nonzeros * safe_log1m(parameters["inflation"]), 0.0)
            return torch.where(zeros > 0, zeros * none, 0.0) + speaks + inner(self._inner(parameters))

        return objective

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        declared, inner = self.parameters(self._event_shape(values)), self._inner(current)
        hurdle = Hurdle(self.inner).maximise(values, weights, {"nonzero": 1 - current["inflation"], **inner})
        share = hurdle.pop("nonzero")
        if not self.discrete:
            return {"inflation": 1 - share, **hurdle}
        inflation = 1 - share / -torch.expm1(self._log_none(values, hurdle)[0])
        inflated = {"inflation": inflation.clamp(min=0), **hurdle}
        plain = {"inflation": torch.zeros_like(share), **self.inner.maximise(values, weights, inner)}
        found = numerical.choose(inflation >= 0, declared, inflated, plain)
        return numerical.better(self.expected_log_prob(values, weights), declared, found, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        above, kept, zeros, nonzeros = self._split(values, weights)
        inflation = beta_mode(zeros, zeros + nonzeros, priors.get("inflation"))
        if self.discrete or inflation is None:
            return super().maximise_posterior(values, weights, current, priors)
        inner_priors = {name: prior for name, prior in priors.items() if name != "inflation"}
        return {"inflation": inflation} | self.inner.maximise_posterior(above, kept, self._inner(current), inner_priors)

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        share = f"{100 * float(parameters['inflation'][state]):.3g}% extra zeros"
        return f"{share}, {self.inner.describe(self._inner(parameters), state, unit)} otherwise"
