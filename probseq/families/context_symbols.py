"""Symbols that depend on the symbols before them: an order-k categorical emission, with a closed-form M-step.

    p(x_t = m | x_(t-1) = c_1, .., x_(t-k) = c_k, z_t) = probabilities[z_t, c, m],   c = c_1 + M c_2 + .. + M^(k-1) c_k

A Markov chain of order k in each hidden state (Churchill 1989; Krogh, Mian & Haussler 1994 for genes). The likelihood
is conditional: a step scores 0 where one of the k before it is missing or lies before the start of its sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.ops.indexing import Vindex
from torch import Tensor
from torch.distributions import constraints

from probseq.context import Context
from probseq.errors import DataError, ModelError
from probseq.families.family import Family, Parameter, Parameters, Priors, empty, real, scalar_event, step_name
from probseq.families.special import safe_log
from probseq.families.symbols import PRIOR_COUNT, Categorical, ExactCategorical
from probseq.kmers import MOST_ROWS


@dataclass(frozen=True)
class ContextCategorical(Family):
    """Code m = 0 .. M-1 with chance `probabilities[c, m]` after the context c of the last `order` codes.

    Attributes:
        order: k, at least 1; for order 0 use `Categorical`.
        categories: M; None leaves it to the data, through `bind`.

    >>> ContextCategorical(2, 4).parameters()["probabilities"].shape
    (16, 4)
    """

    kind = "context-categorical"
    nominal = True
    order: int = 1
    categories: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.order, int) or self.order < 1:
            raise ModelError(
                f"order must be an integer of at least 1, got {self.order!r} at ContextCategorical; use Categorical "
                "for symbols that do not depend on those before them."
            )
        if self.categories is not None and (self.categories < 1 or self.categories ** (self.order + 1) > MOST_ROWS):
            raise ModelError(
                f"categories must be >= 1 and categories^(order + 1) at most {MOST_ROWS:,}, got {self.categories} and "
                f"order {self.order} at ContextCategorical; use a lower order."
            )

    @property
    def context(self) -> Context:
        """The `order` values before each step."""
        return Context(lags=self.order)

    @property
    def discrete(self) -> bool:
        return True

    def bind(self, values: Tensor, categories: int | None = None) -> ContextCategorical:
        if self.categories is not None:
            return self
        return replace(self, categories=categories if categories is not None else int(values.max()) + 1)

    def parameters(self, event_shape: tuple[int, ...] = ()) -> dict[str, Parameter]:
        scalar_event(self, event_shape)
        symbols = self._symbols()
        return {"probabilities": Parameter(constraints.simplex, (symbols**self.order, symbols))}

    def distribution(self, **parameters: Tensor) -> TorchDistributionMixin:
        """The law of a step: probabilities (..., M), those of one state after one context."""
        return ExactCategorical(parameters["probabilities"])

    def emission(
        self, parameters: Parameters, states: tuple[Tensor, ...], context: Tensor | None = None
    ) -> TorchDistributionMixin:
        """The law of each step given its state and the symbols before it, context (T, order)."""
        assert context is not None
        code = self._code(context)
        return self.distribution(probabilities=Vindex(parameters["probabilities"])[..., states[0], code, :])

    def log_prob(self, values: Tensor, parameters: Parameters) -> Tensor:
        """(..., R, K) from rows (R, 1 + order) = [x_t, x_(t-1), ..., x_(t-order)]."""
        numbers, logs = real(values), safe_log(parameters["probabilities"])
        symbols = logs.shape[-1]
        inside = ((numbers >= 0) & (numbers < symbols) & (numbers == numbers.floor())).all(-1)
        codes = torch.where(inside.unsqueeze(-1), numbers, 0.0).long()
        cell = codes[:, 0] + symbols * self._code(codes[:, 1:])
        table = logs.flatten(-2).index_select(-1, cell).mT
        return table if bool(inside.all()) else table.masked_fill(~inside.unsqueeze(-1), -torch.inf)

    def mean(self, parameters: Parameters) -> Tensor:
        """(K,): the expected code in the long run, which orders states but has no other meaning."""
        return self._alone().mean({"probabilities": self.composition(parameters)})

    def variance(self, parameters: Parameters) -> Tensor:
        return self._alone().variance({"probabilities": self.composition(parameters)})

    def composition(self, parameters: Parameters) -> Tensor:
        """(K, M): the share of each symbol in the long run of each state's own chain of order k.

        The law of the last k symbols is moved on from an even one, halfway each time lest it alternate, until it
        changes by less than 1e-12 in sum.
        """
        probabilities = parameters["probabilities"].detach()
        symbols = probabilities.shape[-1]
        law = torch.full_like(probabilities[..., 0], 1.0 / probabilities.shape[-2])
        for _ in range(10_000):
            joint = (law.unsqueeze(-1) * probabilities).unflatten(-2, (symbols, -1))  # the oldest symbol, the others, m
            moved = (law + joint.sum(-3).flatten(-2)) / 2
            change = (moved - law).abs().sum(-1).max()
            law = moved
            if change < 1e-12:
                break
        return (law.unsqueeze(-1) * probabilities).sum(-2)

    def priors(self, values: Tensor) -> dict[str, TorchDistributionMixin]:
        """Worth a tenth of an observation of every symbol after every context."""
        symbols = self.bind(values)._symbols()
        counts = torch.full((symbols**self.order, symbols), PRIOR_COUNT, dtype=torch.float64)
        return {"probabilities": dist.Dirichlet(counts).to_event(1)}

    def maximise(self, values: Tensor, weights: Tensor, current: Parameters) -> dict[str, Tensor]:
        """Shares of the weighted counts; a context that a state never met keeps its current probabilities."""
        counts = self._counts(values, weights)
        return {"probabilities": _shares(counts, current["probabilities"])}

    def maximise_posterior(
        self, values: Tensor, weights: Tensor, current: Parameters, priors: Priors
    ) -> dict[str, Tensor]:
        prior: Any = priors.get("probabilities")
        inner = getattr(prior, "base_dist", None)
        if type(inner) is not dist.Dirichlet or bool((inner.concentration < 1).any()):  # type: ignore[attr-defined]
            return super().maximise_posterior(values, weights, current, priors)
        counts = self._counts(values, weights) + (inner.concentration - 1)  # type: ignore[attr-defined]
        return {"probabilities": _shares(counts, current["probabilities"])}

    def pooled(self, values: Tensor, states: int) -> dict[str, Tensor]:
        """Shares of all rows, the same in every state; an even law after a context that no row has."""
        symbols = self._symbols()
        even = torch.full((1, symbols**self.order, symbols), 1.0 / symbols, dtype=torch.float64)
        ones = torch.ones(values.shape[0], 1, dtype=torch.float64, device=values.device)
        fitted = self.maximise(values, ones, {"probabilities": even})["probabilities"]
        return {"probabilities": fitted.expand(states, -1, -1).clone()}

    def check(
        self,
        values: Tensor,
        observed: Tensor | None = None,
        columns: Sequence[str] = ("value",),
        where: Callable[[int], str] = step_name,
    ) -> None:
        """As for `Categorical`; rows may carry the symbols before them, which are symbols of other rows."""
        if values.ndim == 2 and len(values) == 0:
            raise DataError(
                f"a symbol and the {self.order} before it, {self.order + 1} in a row must be known at least once, got "
                "none; use a lower order or longer sequences."
            )
        alone = values if values.ndim == 1 else values[:, 0]
        self._alone().check(alone, observed, columns, where)

    def describe(self, parameters: Parameters, state: int, unit: str = "") -> str:
        shares = self.composition(parameters)[state].tolist()
        words = ", ".join(f"{100 * share:.3g}% {code}" for code, share in enumerate(shares))
        return f"{words}, each given the {self.order} before"

    def to_json(self) -> dict[str, Any]:
        return {"family": self.kind, "order": self.order, "categories": self.categories}

    # ---- parts ----

    def _symbols(self) -> int:
        if self.categories is None:
            raise ModelError(
                "categories must be known, got None at ContextCategorical(); give ContextCategorical(1, 4), or bind it "
                "to data first."
            )
        return self.categories

    def _alone(self) -> Categorical:
        return Categorical(self.categories)

    def _code(self, context: Tensor) -> Tensor:
        """(T,) number of a context (T, order); the symbol just before is the least significant digit."""
        place = self._symbols() ** torch.arange(self.order, device=context.device)
        return (context.long() * place).sum(-1)

    def _counts(self, values: Tensor, weights: Tensor) -> Tensor:
        """(K, C, M): expected number of each symbol after each context from each state."""
        symbols, codes = self._symbols(), real(values).long()
        cell = codes[:, 0] + symbols * self._code(codes[:, 1:])
        counts = weights.new_zeros(symbols ** (self.order + 1), weights.shape[-1]).index_add_(0, cell, weights)
        return counts.T.unflatten(-1, (-1, symbols))


def _shares(counts: Tensor, current: Tensor) -> Tensor:
    """Counts (K, C, M) over their sums; the current shares where there is nothing to count."""
    total = counts.sum(-1, keepdim=True)
    none = empty(total)
    return torch.where(none, current, counts / torch.where(none, 1.0, total))
