"""The Markov chain of order k on observed symbols: a frozen description whose `program` is a readable Pyro program.

    x_t | x_{t-1}, .., x_{t-k} = c  ~  Categorical(transition[c]),     transition[c] ~ Dirichlet(a, .., a)

The likelihood is conditional on the first k symbols of each sequence, and on the k after a missing one. The posterior
of the rows is again Dirichlet and the evidence is a ratio of gamma functions, so that nothing is searched for. Contexts
are numbered c = x_{t-1} + M x_{t-2} + ..., the latest symbol first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from probseq.errors import DataError, ModelError
from probseq.kernels.ngrams import count_grams, gram_codes
from probseq.models.markov_fit import MarkovFit, require_table
from probseq.models.ngrams import NGrams, PosteriorMean, Smoothing
from probseq.places import step_place
from probseq.sequences import Sequences


class ScoredSteps(NamedTuple):
    """The steps that have enough known symbols before them.

    Attributes:
        step: (S,) flat step number.
        context: (S,) its context.
        symbol: (S,) its symbol.
    """

    step: Tensor
    context: Tensor
    symbol: Tensor


@dataclass(frozen=True)
class MarkovModel:
    """A Markov chain of order k on observed symbols.

    Args:
        order: k, at least 0; 0 is independent symbols.
        concentration: a, of the symmetric Dirichlet prior of each row; 1/2 is Jeffreys' prior.
        smoothing: how the fitted law of the next symbol is estimated: `PosteriorMean`, `WittenBell`, `KneserNey` or
            `MaximumLikelihood`. Evidence, posterior and BIC do not depend on it.
        given: a step is scored when at least this many symbols before it are known; None is k. Models of different
            order are compared on the same steps by giving all of them the largest order.
        symbols: M; None leaves it to the data.

    >>> MarkovModel(order=2, symbols=4).n_parameters
    48
    """

    order: int
    concentration: float = 0.5
    smoothing: Smoothing = field(default_factory=PosteriorMean)
    given: int | None = None
    symbols: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.order, int) or self.order < 0:
            raise ModelError(f"order must be an integer of at least 0, got {self.order!r}; 0 is independent symbols.")
        if not (self.concentration > 0 and math.isfinite(self.concentration)):
            raise ModelError(f"concentration must be positive, got {self.concentration}; 1/2 is Jeffreys' prior.")
        if self.given is not None and self.given < self.order:
            raise ModelError(f"given must be at least the order, {self.order}, got {self.given}; leave it out.")

    # ---- the program -----------------------------------------------------------------------------------------------

    def program(self, series: Sequences) -> Tensor:
        """The model as a Pyro program with the site `transition` (M^k, M); there is no state to sum out.

        Args:
            series: the symbols. Under `pyro.poutine.uncondition` each is drawn given the symbols seen before it; for
                new sequences see `MarkovFit.simulate`.

        Returns:
            (S,) the scored symbols.
        """
        bound = self.bind(series)
        contexts, symbols = require_table(bound.categories, self.order)
        scored = bound.scored(series)
        prior = dist.Dirichlet(torch.full((symbols,), self.concentration, dtype=torch.float64))
        transition = pyro.sample("transition", prior.expand([contexts]).to_event(1))  # pyright: ignore
        weight = 1.0 if series.weights is None else series.weights[series.step_sequence[scored.step]]
        with pyro.plate("step", len(scored.step)), poutine.scale(scale=weight):  # pyright: ignore[reportArgumentType]
            symbol = dist.Categorical(transition[..., scored.context, :])
            return pyro.sample("y", symbol, obs=scored.symbol)

    def scored(self, series: Sequences) -> ScoredSteps:
        """The steps that count, with their contexts."""
        grams = torch.from_numpy(self.grams_of(series, self._given))
        step = (grams >= 0).nonzero().squeeze(-1)
        chosen, symbols = grams[step], self.bind(series).categories
        return ScoredSteps(step, chosen // symbols, chosen % symbols)

    # ---- fitting ---------------------------------------------------------------------------------------------------

    def fit(self, series: Sequences) -> MarkovFit:
        """Count once over the data; everything else follows in closed form.

        Args:
            series: one column of symbols, or of whole numbers from 0.

        Raises:
            DataError: values that are no symbols, or no step with enough known symbols before it.
            ModelError: so many symbols and so high an order that grams have no 64-bit numbers.
        """
        model = self.bind(series)
        grams = model.count(series)
        if len(grams.codes) == 0:
            raise DataError(
                f"a series for order {self.order} must hold {self._given + 1} known symbols in a row, got none; lower "
                "the order, or give longer sequences."
            )
        return MarkovFit(model, grams, tuple(series.columns), series.categories, series.fingerprint())

    def count(self, series: Sequences) -> NGrams:
        """How often each symbol followed each context, sequences counted by their weights."""
        model = self.bind(series)
        weights = None if series.weights is None else series.weights.numpy()
        codes, counts = count_grams(
            *_arrays(series), weights, symbols=model.categories, order=self.order, given=self._given
        )
        return NGrams(model.categories, self.order, codes, counts)

    def grams_of(self, series: Sequences, given: int) -> np.ndarray:
        """(T,) context times M plus symbol of each step; -1 where fewer than `given` symbols before it are known."""
        model = self.bind(series)
        return gram_codes(*_arrays(series), symbols=model.categories, order=self.order, given=given)

    def bind(self, series: Sequences) -> MarkovModel:
        """The model with the number of symbols filled in, the data having been checked."""
        values = series.values
        if values.dim() != 1:
            names = ", ".join(series.columns)
            raise DataError(f"symbols must stand in one column, got {values.shape[1]} ({names}); choose one.")
        known = values if series.observed is None else values[series.observed]
        bad = (known < 0) | (known != known.floor()) if known.is_floating_point() else known < 0
        if len(known) == 0 or bool(bad.any()):
            steps = torch.arange(len(values)) if series.observed is None else series.observed.nonzero().squeeze(-1)
            place = step_place(series)(int(steps[bad.nonzero()[0, 0]])) if len(known) else "all steps"
            got = f"{float(known[bad][0]):g}" if len(known) else "none measured"
            raise DataError(
                f"{series.columns[0]} must be symbols, codes 0, 1, ..., got {got} at {place}; code them, such as "
                "wet = 1 and dry = 0, or read them with symbols=True."
            )
        seen = int(known.max()) + 1
        symbols = seen if series.categories is None else len(series.categories)
        if self.symbols is not None and self.symbols < max(seen, 1 if series.categories is None else symbols):
            raise ModelError(f"symbols must be those of the data, at least {max(seen, symbols)}, got {self.symbols}.")
        return self if self.symbols is not None else replace(self, symbols=symbols)

    @property
    def categories(self) -> int:
        """M, once it is known."""
        if self.symbols is None:
            raise ModelError("the number of symbols must be known, got None; fit the model, or give symbols.")
        return self.symbols

    @property
    def n_parameters(self) -> int:
        """Free parameters, M^k (M - 1), whether or not each context occurs."""
        return self.categories**self.order * (self.categories - 1)

    @property
    def _given(self) -> int:
        return self.order if self.given is None else self.given


def choose_order(series: Sequences, orders: Iterable[int] = range(9), concentration: float = 0.5) -> pd.DataFrame:
    """Which order of Markov chain: every criterion, all orders scored on the same steps (Katz 1981; Strelioff et al.
    2007).

    The steps are those with as many known symbols before them as the largest order asks for; the data are counted once.

    Args:
        series: the symbols.
        orders: to compare.
        concentration: of the Dirichlet prior of each row.

    Returns:
        one row an order: `log_likelihood` (maximised), `n_parameters`, `aic`, `bic`, `log_evidence`, and
        `probability`, the posterior probability of the order when all are equally probable beforehand.
    """
    tried = sorted(set(orders))
    if not tried:
        raise ModelError("orders must name at least one order, got none; give range(9), say.")
    longest = MarkovModel(tried[-1], concentration).fit(series)
    rows = []
    for order in tried:
        model = replace(longest.model, order=order, given=tried[-1])
        fit = replace(longest, model=model, grams=longest.grams.shorter(order))
        rows.append([fit.log_likelihood, fit.n_parameters, fit.aic, fit.bic, fit.log_evidence])
    names = ["log_likelihood", "n_parameters", "aic", "bic", "log_evidence"]
    table = pd.DataFrame(rows, columns=names, index=pd.Index(tried, name="order"))
    relative = np.exp(table["log_evidence"] - table["log_evidence"].max())
    return table.assign(probability=relative / relative.sum())


def _arrays(series: Sequences) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    observed = None if series.observed is None else series.step_observed.numpy()
    return series.values.numpy(), observed, series.offsets.numpy()
