"""Any family of single numbers with parameters that depend on covariates and seasons: one regression for each state.

    y_t | z_t = k, x_t  ~  inner(theta_1, theta_2, ...),   theta_m = link_m(b_km . x_t),   or a constant theta_km

Poisson and gamma regression, logistic regression, seasonal rainfall: generalised linear models (McCullagh & Nelder
1989), and with several parameters that vary, distributional regression (Rigby & Stasinopoulos 2005). With hidden states
they are Markov-switching regressions (Zucchini, MacDonald & Langrock 2016, section 10.3).

The M-step is a Newton ascent in all coefficients and constants of a state at once. Each row's log-likelihood depends on
a few predictors eta alone, so that its gradient and exact Hessian in the coefficients are X' g and X' H X, with g and H
the derivatives in eta, which automatic differentiation gives for all rows together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.ops.indexing import Vindex
from torch import Tensor
from torch.distributions import biject_to, constraints

from probseq.context import Context
from probseq.design import Design
from probseq.errors import ModelError
from probseq.families import numerical
from probseq.families.family import Family, Parameter, Parameters, Priors, empty, step_name
from probseq.families.links import CoefficientPrior, link_of, name_of, predictor
from probseq.families.row_derivatives import Block, by_one_pass, row_derivatives
from probseq.families.symbols import Categorical

SUFFIX = "_coefficients"


@dataclass(frozen=True)
class Regression(Family):
    """A family whose parameters follow a design; those named in `varying`, or all of them.

    The parameter `rate` becomes `rate_coefficients` (K, P), by column of the design, the intercept first; that of a
    categorical law (K, M - 1, P). What does not vary keeps its name. `mean`, `variance` and `describe` speak of the
    reference: every column but the intercept zero, for a season the average over it on the scale of the link.

    Attributes:
        inner: a family of single numbers.
        design: covariates and seasons.
        varying: names of the parameters that depend on the design; None means all.

    >>> from probseq import Season
    >>> from probseq.families import Gamma, Hurdle
    >>> list(Regression(Hurdle(Gamma()), Design(seasons=(Season("year"),)), ("nonzero", "rate")).parameters())
    ['nonzero_coefficients', 'concentration', 'rate_coefficients']
    """

    kind = "regression"
    closed_form = False

    inner: Family
    design: Design
    varying: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.design, Mapping):
            object.__setattr__(self, "design", Design.from_json(self.design))
        if isinstance(self.varying, list):
            object.__setattr__(self, "varying", tuple(self.varying))
        plain = isinstance(self.inner, Family) and not self.inner.event_dim and not self.inner.context
        if not plain or self.inner.memory > 1:
            raise ModelError(
                f"Regression must wrap a family of single numbers without a context, got {self.inner!r}; write "
                "Regression(Poisson(), design)."
            )
        if not isinstance(self.design, Design) or not self.design:
            raise ModelError(
                f"Regression must depend on a covariate or a season, got {self.design!r}; give a Design, or use "
                f"{type(self.inner).__name__}() itself."
            )
        names = list(self._inner_parameters)
        unknown = [name for name in self.varying or () if name not in names]
        if unknown or self.varying == ():
            raise ModelError(
                f"the varying parameters must be among {', '.join(names)}, got {self.varying!r} at Regression; name "
                "one or more, or leave them out for all."
            )

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.inner.name}"

    @property
    def discrete(self) -> bool:
        return self.inner.discrete

    @property
    def nominal(self) -> bool:  # type: ignore[override]
        return self.inner.nominal

    @property
    def context(self) -> Context:  # type: ignore[override]
        return self._context

    @cached_property
    def _context(self) -> Context:
        return Context(design=self.design)

    @cached_property
    def _inner_parameters(self) -> dict[str, Parameter]:
        if isinstance(self.inner, Categorical) and self.inner.categories is None:  # bound later
            return {"probabilities": Parameter(constraints.simplex)}
        return self.inner.parameters()

    @cached_property
    def _links(self) -> dict[str, Any]:
        """The links of the parameters that vary."""
        chosen = self._inner_parameters if self.varying is None else self.varying
        return {name: link_of(one.constraint) for name, one in self._inner_parameters.items() if name in chosen}

    # ---- the law ----

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        result = {}
        for name, one in self.inner.parameters(event_shape).items():
            if name in self._links:
                shape = (*self._links[name].inverse_shape(one.shape), self.design.width)
                result[name + SUFFIX] = Parameter(constraints.real, shape)
            else:
                result[name] = one
        return result

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        return self.inner.distribution(**self._at_reference(parameters))

    def emission(
        self, parameters: Parameters, states: tuple[Tensor, ...], context: Tensor | None = None
    ) -> TorchDistributionMixin:
        assert context is not None
        chosen = {}
        for name, one in self.inner.parameters().items():
            if name in self._links:
                inner = (slice(None),) * (len(self._links[name].inverse_shape(one.shape)) + 1)
                coefficients = Vindex(parameters[name + SUFFIX])[(..., states[0], *inner)]
                rows = context if len(inner) == 1 else context.unsqueeze(-2)
                chosen[name] = self._links[name]((coefficients * rows).sum(-1))
            else:
                chosen[name] = Vindex(parameters[name])[(..., states[0], *(slice(None),) * len(one.shape))]
        return self.inner.distribution(**chosen)

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        y, rows = values[:, 0], values[:, 1:]
        outside = self._impossible(y, parameters)
        return self._density(y, self.beside(parameters, rows), outside)

    def beside(self, parameters: Parameters, rows: Tensor) -> dict[str, Tensor]:
        """The inner family's parameters beside each design row (R, P): (..., R, K, *shape), R = 1 for a constant."""
        result = {}
        for name, one in self.inner.parameters().items():
            if name in self._links:
                coefficients = parameters[name + SUFFIX]
                subscripts = "...kmp,rp->...rkm" if one.shape else "...kp,rp->...rk"
                result[name] = self._links[name](torch.einsum(subscripts, coefficients, rows))
            else:
                result[name] = parameters[name].unsqueeze(-2 - len(one.shape))
        return result

    def mean(self, parameters: Parameters) -> Tensor:
        return self.inner.mean(self._at_reference(parameters))

    def mean_beside(self, parameters: Parameters, context: Tensor) -> Tensor:
        return self.inner.mean(self._whole(self.beside(parameters, context)))

    def variance(self, parameters: Parameters) -> Tensor:
        return self.inner.variance(self._at_reference(parameters))

    def cdf(self, values: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            beside = self.beside(parameters, values[:, 1:])
            return self.inner._cdf(values[:, :1], beside)

    def survival(self, values: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            beside = self.beside(parameters, values[:, 1:])
            return self.inner._survival(values[:, :1], beside)

    # ---- learning ----

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Constants and, at the reference, what varies: the inner family's own.

        Slopes are normal around zero with standard deviation 2.5 over that of their column, on the scale of a log or
        logit link (Gelman et al. 2008); with an identity link in units of the spread of the observations.
        """
        y, rows = values[:, 0], values[:, 1:]
        width = rows[:, 1:].std(0, correction=0)
        slopes = 2.5 / torch.where(width > 0, width, 1.0)
        spread = y.std(correction=0) if len(y) else torch.ones(())
        result = {}
        for name, prior in self.inner.priors(y).items():
            link = self._links.get(name)
            if link is None:
                result[name] = prior
                continue
            units = spread if self._inner_parameters[name].constraint is constraints.real and spread > 0 else 1.0
            shape = tuple(link.inverse_shape(self.inner.bind(y).parameters()[name].shape))
            result[name + SUFFIX] = CoefficientPrior(prior, link, slopes * units, shape)
        return result

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        total, declared = weights.sum(0), self.parameters()
        objective, derivatives = self.expected_log_prob(values, weights), self._derivatives(values, weights, current)
        found = numerical.maximise(objective, declared, current, total, derivatives)
        return numerical.choose(~empty(total), declared, found, current)

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        if not priors:
            return self.maximise(values, weights, current)
        declared, likelihood = self.parameters(), self.expected_log_prob(values, weights)
        blocks = self._blocks(values)
        by_data = self._derivatives(values, weights, current)

        def prior(parameters: Parameters) -> Tensor:
            return numerical.log_prior(priors, parameters, declared, weights.shape[-1])

        separate = all(
            type(one) is CoefficientPrior and not one.copies or not one.event_shape for one in priors.values()
        )
        by_prior = (by_one_pass if separate else numerical.by_autograd)(lambda u: prior(self._unpacked(u, blocks)))

        def derivatives(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            parts = zip(by_data(u), by_prior(u), strict=True)
            return tuple(first + second for first, second in parts)  # type: ignore[return-value]

        def objective(parameters: Parameters) -> Tensor:
            return likelihood(parameters) + prior(parameters)

        return numerical.maximise(objective, declared, current, weights.sum(0) + 1, derivatives)

    def pooled(self, values: Tensor, states: int) -> dict[str, Tensor]:
        plain = self.inner.pooled(values[:, 0], 1)
        start = {}
        for name, value in plain.items():
            if name in self._links:
                first = predictor(self._links[name], value).unsqueeze(-1)
                start[name + SUFFIX] = torch.cat([first, first.new_zeros(*first.shape[:-1], self.design.width - 1)], -1)
            else:
                start[name] = value
        fitted = self.maximise(values, torch.ones(len(values), 1, dtype=torch.float64), start)
        return {name: value.expand(states, *value.shape[1:]).clone() for name, value in fitted.items()}

    # ---- the data ----

    def bind(self, values: Tensor, categories: int | None = None) -> Regression:
        return dataclasses.replace(self, inner=self.inner.bind(values[:, 0], categories))

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        if len(columns) != 1:
            self.inner.check(values[:, : len(columns)], observed, columns, where)
        self.inner.check(values[:, 0], observed, columns, where)

    def degenerate(self, parameters: Parameters, values: Tensor) -> str | None:
        return self.inner.degenerate(self._at_reference(parameters), values[:, 0])

    def at_limit(self, parameters: Parameters, values: Tensor) -> str | None:
        return self.inner.at_limit(self._at_reference(parameters), values[:, 0])

    # ---- words and numbers ----

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        """The state at the reference, and how each parameter that varies follows the design."""
        parts = [self.inner.describe(self._at_reference(parameters), state, unit)]
        for name, link in self._links.items():
            slopes = parameters[name + SUFFIX][state]
            for copy, row in enumerate(slopes.reshape(-1, slopes.shape[-1]).tolist()):
                terms = ", ".join(
                    f"{value:+.3g} {column}" for column, value in zip(self.design.names[1:], row[1:], strict=True)
                )
                which = f"{name}[{copy}]" if slopes.dim() > 1 else name
                parts.append(f"{name_of(link, which)}: {terms}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        fields = {"design": dataclasses.asdict(self.design), "varying": self.varying}
        return {"family": self.kind, "inner": self.inner.to_json(), **fields}

    # ---- parts ----

    def _at_reference(self, parameters: Parameters) -> dict[str, Tensor]:
        """The inner family's parameters (..., K, *shape) where every column but the intercept is zero."""
        chosen = {}
        for name in self.inner.parameters():
            varies = name in self._links
            chosen[name] = self._links[name](parameters[name + SUFFIX][..., 0]) if varies else parameters[name]
        return chosen

    def _whole(self, beside: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Parameters beside rows with constants repeated, so that each says how many rows there are."""
        ranks = {name: len(one.shape) for name, one in self.inner.parameters().items()}
        batch = torch.broadcast_shapes(*(one.shape[: one.dim() - ranks[name]] for name, one in beside.items()))
        return {name: one.expand(batch + one.shape[one.dim() - ranks[name] :]) for name, one in beside.items()}

    def _impossible(self, y: Tensor, parameters: Parameters) -> Tensor | None:
        """(..., R, K) bool: observations outside the support, as the inner family judges at the reference."""
        with torch.no_grad():
            outside = self.inner.log_prob(y, self._at_reference(parameters)) == -torch.inf
        return outside if bool(outside.any()) else None

    def _density(self, y: Tensor, beside: Mapping[str, Tensor], outside: Tensor | None) -> Tensor:
        """(..., R, K) log-likelihood of each observation under its own parameters; -inf where it is outside."""
        column = y.unsqueeze(-1)
        if outside is not None:
            inside = ~outside
            stand_in = y[inside.any(-1).reshape(-1, len(y)).any(0)][:1]
            column = torch.where(outside, stand_in if len(stand_in) else torch.ones(1).double(), column)
        with pyro.validation_enabled(False):  # pyright: ignore[reportGeneralTypeIssues]
            table: Any = self.inner.distribution(**beside).log_prob(column)
        return table if outside is None else torch.where(outside, -torch.inf, table)

    def _blocks(self, values: Tensor) -> list[Block]:
        """What is learned, in the order of `parameters` and in the coordinates of `numerical.maximise`."""
        rows, ones = values[:, 1:], torch.ones(len(values), 1, dtype=torch.float64)
        blocks = []
        for name, one in self.inner.parameters().items():
            varies = name in self._links
            link: Any = self._links[name] if varies else biject_to(one.constraint)
            blocks.append(Block(name, link, tuple(link.inverse_shape(one.shape)), rows if varies else ones))
        return blocks

    def _unpacked(self, u: Tensor, blocks: Sequence[Block]) -> dict[str, Tensor]:
        """The parameters at coordinates (K, W)."""
        result = {}
        for block, part in zip(blocks, u.split([block.width for block in blocks], -1), strict=True):
            whole = part.reshape(len(u), *block.shape, block.design.shape[1])
            if block.name in self._links:
                result[block.name + SUFFIX] = whole
            else:
                result[block.name] = block.link(whole.squeeze(-1))
        return result

    def _derivatives(self, values: Tensor, weights: Tensor, current: Parameters) -> numerical.Derivatives:
        """Of the expected log-likelihood, in the coordinates of `numerical.maximise`."""
        y, outside = values[:, 0], self._impossible(values[:, 0], current)
        return row_derivatives(lambda inner: self._density(y, inner, outside), self._blocks(values), weights)
