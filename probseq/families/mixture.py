"""Finite mixtures of any family: p(x | state k) = sum_m w[k, m] f(x; theta[k, m]).

The components of all states are K M states of the inner family, whose table and M-step do the work. An M-step is one
step of EM inside the state (Dempster, Laird & Rubin 1977): with r[i, k, m] = w[k, m] f(x_i; theta[k, m]) / p(x_i | k),

    w[k, m] = sum_i weight[i, k] r[i, k, m] / sum_i weight[i, k],
    theta[k, m] by the inner M-step on weight[i, k] r[i, k, m].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import constraints

from probseq.errors import ModelError
from probseq.families import checking, numerical
from probseq.families.family import Family, Parameter, Parameters, Priors, empty, real, step_name
from probseq.families.mixture_law import MixtureDistribution, log_sum
from probseq.families.special import safe_log
from probseq.families.von_mises import VonMises

PRIOR_COUNT = 1.1  # a tenth of an observation of every component
POOLED_STEPS = 50  # of EM, to a neutral start


@dataclass(frozen=True)
class Mixture(Family):
    """Each state emits by one of several laws of a family, drawn anew at every step.

    Attributes:
        inner: the family of the components; their parameters are (K, M, *shape).
        components: M.

    >>> from probseq.families import Gaussian
    >>> list(Mixture(Gaussian(), 2).parameters())
    ['weights', 'loc', 'scale']
    """

    kind = "mixture"

    inner: Family
    components: int

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Family) or isinstance(self.inner, Mixture):
            raise ModelError(
                f"Mixture must be of a family that is no mixture, got {self.inner!r} at inner; "
                "write Mixture(Gaussian(), 2), say."
            )
        checking.require_plain("Mixture", self.inner)
        if not isinstance(self.components, int) or self.components < 1:
            raise ModelError(
                f"components must be a whole number >= 1, got {self.components!r} at Mixture; give 2 or more."
            )

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.components}-{self.inner.name}"

    @property
    def discrete(self) -> bool:
        return self.inner.discrete

    @property
    def event_dim(self) -> int:
        return self.inner.event_dim

    @property
    def nominal(self) -> bool:  # type: ignore[override]
        return self.inner.nominal

    @property
    def partly_missing(self) -> bool:
        return self.inner.partly_missing

    def bind(self, values: Tensor, categories: int | None = None) -> Family:
        return Mixture(self.inner.bind(values, categories), self.components)

    def event_shape_of(self, parameters: Parameters) -> tuple[int, ...]:
        """That of the inner family, for which the components are states."""
        return self.inner.event_shape_of(_inner(parameters))

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        declared = {"weights": Parameter(constraints.simplex, (self.components,))}
        for name, one in self.inner.parameters(event_shape).items():
            many = Parameter(constraints.independent(one.constraint, 1), (self.components, *one.shape))
            declared[name] = one if one.shared else many
        return declared

    def n_parameters(self, states: int, event_shape: tuple[int, ...] = ()) -> int:
        return states * (self.components - 1) + self.inner.n_parameters(states * self.components, event_shape)

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        declared = self.inner.parameters(self.event_shape_of(parameters))
        inner = {  # what all components share has no axis for them
            name: value.unsqueeze(-1 - len(declared[name].shape)) if declared[name].shared else value
            for name, value in _inner(parameters).items()
        }
        return MixtureDistribution(parameters["weights"], self.inner.distribution(**inner))

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        return log_sum(self._terms(values, parameters))

    def _terms(self, values: Tensor, parameters: Parameters) -> Tensor:
        """(..., R, K, M): log of weight times density of every component."""
        table = self._apart(self.inner.log_prob(values, self._flat(values, parameters)))
        return table + safe_log(parameters["weights"]).unsqueeze(-3)

    def cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            return self._mixed(self.inner.cdf(values, self._flat(values, parameters)), parameters)

    def survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            return self._mixed(self.inner.survival(values, self._flat(values, parameters)), parameters)

    def _mixed(self, table: Tensor, parameters: Parameters) -> Tensor:
        return (self._apart(table) * parameters["weights"].unsqueeze(-3)).sum(-1)

    def _cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        return (parameters["weights"] * self.inner._cdf(values.unsqueeze(-1), _inner(parameters))).sum(-1)

    def _survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        return (parameters["weights"] * self.inner._survival(values.unsqueeze(-1), _inner(parameters))).sum(-1)

    def mean(self, parameters: Parameters) -> Tensor:
        if isinstance(self.inner, VonMises):
            return self.inner.direction(parameters, parameters["weights"])
        return (self._share(parameters) * self.inner.mean(_inner(parameters))).sum(-1 - self.event_dim)

    def average(self, parameters: Parameters, weights: Tensor) -> Tensor:
        each = weights.unsqueeze(-1) * parameters["weights"].unsqueeze(1)
        return self.inner.average(self._flatten(parameters, self.event_shape_of(parameters)), each.flatten(-2))

    def variance(self, parameters: Parameters) -> Tensor:
        if isinstance(self.inner, VonMises):
            return 1 - self.inner.resultant(parameters, parameters["weights"]).abs()
        means = self.inner.mean(_inner(parameters))
        square = (means - self.mean(parameters).unsqueeze(-1 - self.event_dim)).square()
        return (self._share(parameters) * (square + self.inner.variance(_inner(parameters)))).sum(-1 - self.event_dim)

    def _share(self, parameters: Parameters) -> Tensor:
        weights = parameters["weights"]
        return weights.reshape(*weights.shape, *[1] * self.event_dim)

    # ---- components as states of the inner family ----

    def _flat(self, values: Tensor, parameters: Parameters) -> dict[str, Tensor]:
        return self._flatten(parameters, tuple(values.shape[values.dim() - self.event_dim :]))

    def _flatten(self, parameters: Parameters, event_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The inner parameters with K and M as one axis, K M long."""
        result = {}
        for name, one in self.inner.parameters(event_shape).items():
            at = -1 - len(one.shape)
            result[name] = parameters[name] if one.shared else parameters[name].flatten(at - 1, at)
        return result

    def _unflatten(self, inner: Parameters, event_shape: tuple[int, ...]) -> dict[str, Tensor]:
        declared = self.inner.parameters(event_shape)
        return {n: v if declared[n].shared else v.unflatten(0, (-1, self.components)) for n, v in inner.items()}

    def _apart(self, table: Tensor) -> Tensor:
        """(..., R, K M) to (..., R, K, M)."""
        return table.unflatten(-1, (-1, self.components))

    # ---- learning ----

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """weights: worth a tenth of an observation of every component. The rest: the inner family's, for each."""
        count = torch.full((self.components,), PRIOR_COUNT, dtype=torch.float64, device=values.device)
        declared = self.inner.parameters(tuple(values.shape[values.dim() - self.event_dim :]))
        inner = self.inner.priors(values)
        several = {n: p if declared[n].shared else p.expand([self.components]).to_event(1) for n, p in inner.items()}
        return {"weights": dist.Dirichlet(count), **several}

    def _expect(self, values: Tensor, weights: Tensor, current: Parameters) -> Tensor:
        """(R, K, M): expected number of times that each component emitted each row."""
        terms = self._terms(values, current)
        total = log_sum(terms).unsqueeze(-1)
        shares = torch.where(total > -math.inf, (terms - torch.where(total > -math.inf, total, 0.0)).exp(), 0.0)
        return weights.unsqueeze(-1) * shares

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        """One step of EM within each state, which never lowers its weighted log-likelihood."""
        with torch.no_grad():
            counts = self._expect(values, weights, current)
            flat = self._flat(values, current)
            inner = self.inner.maximise(values, counts.flatten(1), flat)
            totals = counts.sum(0)
            total = totals.sum(-1, keepdim=True)
            share = totals / torch.where(empty(total), 1.0, total)
            found = {"weights": share, **self._unflatten(inner, self._event_shape(values))}
            return numerical.choose(
                ~empty(total.squeeze(-1)), self.parameters(self._event_shape(values)), found, current
            )

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        """One step of EM; with priors other than one law for all components and a Dirichlet, a numerical mode."""
        mixed = priors.get("weights")
        declared = self.inner.parameters(self._event_shape(values))
        inner_priors = {
            n: p if declared[n].shared else law_of_component(p) for n, p in priors.items() if n != "weights"
        }
        plain = type(mixed) is dist.Dirichlet and not bool((mixed.concentration <= 1).any())  # type: ignore[attr-defined]
        if not plain or any(prior is None for prior in inner_priors.values()):
            return super().maximise_posterior(values, weights, current, priors)
        counts = self._expect(values, weights, current)
        flat = self._flat(values, current)
        inner = self.inner.maximise_posterior(values, counts.flatten(1), flat, inner_priors)  # type: ignore[arg-type]
        totals = counts.sum(0) + mixed.concentration - 1  # type: ignore[union-attr]
        share = totals / totals.sum(-1, keepdim=True)
        return {"weights": share, **self._unflatten(inner, self._event_shape(values))}

    def pooled(self, values: Tensor, states: int) -> dict[str, Tensor]:
        """All rows as one state whose components begin as parts of the rows by rank, after a stretch of EM."""
        declared = self.parameters(self._event_shape(values))
        first = real(values).reshape(len(values), -1)[:, 0].nan_to_num(nan=0.0)
        rank = first.argsort().argsort() * self.components // max(1, len(values))
        ones = torch.nn.functional.one_hot(rank, self.components).to(torch.float64)
        mixed = 0.8 * ones + 0.2 / self.components
        inner = self.inner.maximise(values, mixed, self.inner.pooled(values, self.components))
        even = torch.full((1, self.components), 1 / self.components, dtype=torch.float64, device=values.device)
        found = {"weights": even, **self._unflatten(inner, self._event_shape(values))}
        weights = torch.ones(len(values), 1, dtype=torch.float64, device=values.device)
        for _ in range(POOLED_STEPS):
            found = self.maximise(values, weights, found)
        return {
            name: value if declared[name].shared else value.expand(states, *value.shape[1:]).clone()
            for name, value in found.items()
        }

    # ---- the data, words and numbers ----

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        self.inner.check(values, observed, columns, where)

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return self._first_reason(self.inner.degenerate, parameters, values)

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        for state, shares in enumerate(parameters["weights"].tolist()):
            for component, share in enumerate(shares):
                if self.components > 1 and share < 1e-6:
                    return (
                        f"component {component} of state {state} has all but no weight ({share:.2g}): its parameters "
                        "are left undetermined; use fewer components, or the default priors"
                    )
        return self._first_reason(self.inner.at_limit, parameters, values)

    def _first_reason(self, judge: Callable[..., str | None], parameters: Parameters, values: Tensor) -> str | None:
        declared = self.inner.parameters(self._event_shape(values))
        flat = self._flat(values, parameters)
        for number, weight in enumerate(parameters["weights"].flatten().tolist()):
            one = {n: v if declared[n].shared else v[number : number + 1] for n, v in flat.items()}
            reason = judge(one, values) if weight > 0 else None
            if reason:
                state, component = divmod(number, self.components)
                return reason.replace("state 0", f"component {component} of state {state}", 1)
        return None

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        flat = self._flatten(parameters, self.event_shape_of(parameters))
        parts = []
        for component, share in enumerate(parameters["weights"][state].tolist()):
            text = self.inner.describe(flat, state * self.components + component, unit)
            parts.append(f"{100 * share:.3g}%: {text}")
        return " | ".join(parts)

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "inner": self.inner.to_json(), "components": self.components}


def _inner(parameters: Parameters) -> dict[str, Tensor]:
    return {name: value for name, value in parameters.items() if name != "weights"}


def law_of_component(prior: Any) -> Any:
    """The law of one component, where `prior` is that law for each of them; else None."""
    if not isinstance(prior, dist.Independent):
        return None
    base, depth = prior.base_dist, prior.reinterpreted_batch_ndims
    arguments = {name: getattr(base, name) for name in base.arg_constraints}
    if not arguments or any(bool((value != value[:1]).any()) for value in arguments.values()):
        return None
    one: Any = type(base)(**{name: value[0] for name, value in arguments.items()})
    return one.to_event(depth - 1) if depth > 1 else one
