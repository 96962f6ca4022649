"""A fitted Markov chain of order k: its posterior, and every answer that it gives."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.chains import passage_times
from probseq.errors import DataError, ModelError
from probseq.models.ngrams import Level, NGrams, probability

if TYPE_CHECKING:
    from probseq.models.markov_model import MarkovModel
    from probseq.sequences import Sequences

LARGEST_TABLE = 1 << 24
"""Cells of a table of all contexts and symbols that may be made."""

BLOCK = 1 << 20
"""Steps that are looked up at a time."""


def require_table(symbols: int, order: int) -> tuple[int, int]:
    """(M^k, M), the shape of the table of all contexts; refused where it has more than LARGEST_TABLE cells."""
    if symbols ** (order + 1) > LARGEST_TABLE:
        raise ModelError(
            f"an answer about all contexts must have at most {LARGEST_TABLE} of them times symbols, got {symbols}^"
            f"{order + 1}; lower the order, or merge rare symbols. Scores and simulation work at any order."
        )
    return symbols**order, symbols


@dataclass(frozen=True, eq=False)
class MarkovFit:
    """A Markov chain of order k with its counts.

    Args:
        model: the description, its number of symbols filled in.
        grams: how often each symbol followed each context.
        columns: the name of the data's column.
        categories: what the symbols are, or None.
        fingerprint: SHA-256 of the data.
    """

    model: MarkovModel
    grams: NGrams
    columns: tuple[str, ...] = ("value",)
    categories: tuple[str, ...] | None = None
    fingerprint: str = ""

    # ---- size of the model against its fit -------------------------------------------------------------------------

    @cached_property
    def log_likelihood(self) -> float:
        """Nats, maximised over the rows; of the scored steps, weighted."""
        return self.grams.log_likelihood

    @cached_property
    def log_evidence(self) -> float:
        """Nats: log p(scored steps), the rows integrated out over their Dirichlet priors."""
        return self.grams.log_evidence(self.model.concentration)

    @property
    def observations(self) -> float:
        """Number of scored steps, the n of BIC; those of a weighted sequence as often as it counts."""
        return float(self.grams.counts.sum())

    @property
    def n_parameters(self) -> int:
        """M^k (M - 1)."""
        return self.model.n_parameters

    @property
    def aic(self) -> float:
        """2 p - 2 log L (Akaike 1974)."""
        return 2.0 * self.n_parameters - 2.0 * self.log_likelihood

    @property
    def bic(self) -> float:
        """p log n - 2 log L (Schwarz 1978; Katz 1981 for the order of a chain)."""
        return self.n_parameters * math.log(self.observations) - 2.0 * self.log_likelihood

    # ---- the law ---------------------------------------------------------------------------------------------------

    @cached_property
    def transition(self) -> Tensor:
        """(M^k, M) the law of the next symbol after each context, as the model's smoothing estimates it."""
        contexts, symbols = require_table(self.model.categories, self.model.order)
        return torch.from_numpy(probability(self._levels, np.arange(contexts)[:, None], np.arange(symbols)))

    def to_frame(self) -> pd.DataFrame:
        """`transition` with its contexts, oldest symbol first, and its symbols by name."""
        names = self.categories or tuple(str(code) for code in range(self.model.categories))
        order, symbols = self.model.order, self.model.categories
        numbers = np.arange(len(self.transition))
        parts = [np.array(names)[numbers // symbols**power % symbols] for power in reversed(range(order))]
        index = pd.MultiIndex.from_arrays(parts) if parts else pd.Index(["any"])
        return pd.DataFrame(self.transition.numpy(), columns=list(names), index=index)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """`transition`, under the name of the program's site."""
        return {"transition": self.transition}

    @property
    def posterior_concentration(self) -> Tensor:
        """(M^k, M) of the Dirichlet posterior of each row: the prior's plus the counts."""
        shape = require_table(self.model.categories, self.model.order)
        table = torch.full((shape[0] * shape[1],), self.model.concentration, dtype=torch.float64)
        table[torch.from_numpy(self.grams.codes)] += torch.from_numpy(self.grams.counts)
        return table.reshape(shape)

    def next_symbol(self, context: Sequence[str] | Sequence[int]) -> Tensor:
        """(M,) the law of the next symbol after at least k symbols, oldest first: "GA", or codes."""
        return torch.from_numpy(self._row(self._context(context)))

    # ---- the SequenceModel protocol --------------------------------------------------------------------------------

    def log_prob(self, series: Sequences) -> Tensor:
        """(N,) nats: log p(x_n) given the first k symbols, and the k after a gap; not weighted."""
        steps = self.predictive_log_prob(series)
        return steps.new_zeros(series.count).index_add_(0, series.step_sequence, steps)

    def predictive_log_prob(self, series: Sequences) -> Tensor:
        """(T,) nats: log p(x_t | x_<t); zero at a missing step and where the model's `given` symbols are not known."""
        model = self.model
        grams = model.grams_of(series, model.order if model.given is None else model.given)
        result = np.zeros(len(grams))
        symbols = model.categories
        table = None if symbols ** (model.order + 1) > LARGEST_TABLE else self._log_table
        for start in range(0, len(grams), BLOCK):
            block = grams[start : start + BLOCK]
            kept = block >= 0
            known = block[kept]
            if table is not None:
                found = table[known]
            else:
                with np.errstate(divide="ignore"):  # log 0 = -inf is meant
                    found = np.log(probability(self._levels, known // symbols, known % symbols))
            result[start : start + BLOCK][kept] = found
        return torch.from_numpy(result)

    def forecast(self, series: Sequences, horizon: int) -> pd.DataFrame:
        """The probability of each symbol at the next `horizon` steps of every sequence, exactly.

        What follows the last k symbols; symbols missing among them are summed out. Columns `p(symbol)`.

        Args:
            series: what has been seen.
            horizon: steps ahead, at least 1.
        """
        index = series.future_index(horizon)
        shares = np.empty((series.count, horizon, self.model.categories))
        for number in range(series.count):
            contexts, law = self._seen(series.take([number]))
            for step in range(horizon):
                joint = law[:, None] * self._rows(contexts)
                shares[number, step] = joint.sum(0)
                if step + 1 < horizon:
                    contexts, law = self._moved(contexts, joint)
        names = self.categories or tuple(str(code) for code in range(self.model.categories))
        frame = pd.DataFrame(shares.reshape(-1, len(names)), columns=[f"p({name})" for name in names], index=index)
        if series.count > 1:
            frame.insert(0, series.ids.name or "sequence", np.repeat(series.ids.to_numpy(), horizon))
        return frame

    def simulate(
        self, lengths: int | Sequence[int], *, seed: int, start: Sequence[str] | Sequence[int] | None = None
    ) -> Sequences:
        """New sequences; each begins with k symbols that are drawn as often as they stand in the data.

        Args:
            lengths: steps of each sequence.
            seed: of the generator.
            start: symbols that each goes on from, at least k, oldest first; they are not part of it.
        """
        from probseq.sequences import Sequences

        sizes = [lengths] if isinstance(lengths, int) else [int(length) for length in lengths]
        if not sizes or min(sizes) < 1:
            raise DataError(f"lengths must be at least 1 each, got {lengths}; give the steps of each sequence.")
        codes = np.concatenate(self._drawn(sizes, np.random.default_rng(seed), start))
        small = self.model.categories <= 256
        values = torch.from_numpy(codes.astype(np.uint8 if small else np.int32))
        return Sequences(values, torch.tensor(sizes), columns=self.columns, categories=self.categories)

    def generate(self, length: int, seed: int, start: str | Sequence[str] | None = None) -> str:
        """Text of `length` more symbols; words are joined by spaces."""
        codes = self.simulate(length, seed=seed, start=start).values.tolist()
        names = self.categories or tuple(str(code) for code in range(self.model.categories))
        return (" " if max(map(len, names)) > 1 else "").join(names[code] for code in codes)

    # ---- long run and arrivals -------------------------------------------------------------------------------------

    @cached_property
    def stationary(self) -> Tensor:
        """(M,) the long-run share of each symbol."""
        return passage_times.stationary_symbols(self.transition)

    @cached_property
    def stationary_contexts(self) -> Tensor:
        """(M^k,) the long-run share of each context."""
        return passage_times.stationary_contexts(self.transition)

    def occupancy(self, steps: int, start: Sequence[str] | Sequence[int] | None = None) -> Tensor:
        """(M,) expected number of the next `steps` steps that each symbol takes.

        Args:
            steps: at least 1.
            start: the symbols just seen, at least k, oldest first; None starts in the long run.
        """
        return passage_times.occupancy(self.transition, self._start(start), steps)

    def hitting_times(self, target: str | int | Collection[str] | Collection[int]) -> Tensor:
        """(M^k,) mean number of steps until a symbol of the target comes, after each context."""
        return passage_times.hitting_times(self.transition, self._target(target))

    def hitting_law(
        self,
        target: str | int | Collection[str] | Collection[int],
        steps: int,
        start: Sequence[str] | Sequence[int] | None = None,
    ) -> Tensor:
        """(steps,) P(a symbol of the target comes for the first time at the h-th next step); `start` as above."""
        return passage_times.hitting_law(self.transition, self._target(target), self._start(start), steps)

    def save(self, directory: str | Path) -> Path:
        """Write the fit as JSON and safetensors into a directory (made if need be); all of it or nothing."""
        from probseq.models.markov_storage import save

        return save(self, directory)

    @staticmethod
    def load(directory: str | Path) -> MarkovFit:
        """Read a fit; its scores are bit-equal to those of the fit that was saved."""
        from probseq.models.markov_storage import load

        return load(directory)

    # ---- parts -----------------------------------------------------------------------------------------------------

    @cached_property
    def _levels(self) -> list[Level]:
        return self.model.smoothing.levels(self.grams, self.model.concentration)

    @cached_property
    def _log_table(self) -> np.ndarray:
        with np.errstate(divide="ignore"):  # log 0 = -inf is meant
            return np.log(self.transition.numpy()).reshape(-1)

    def _row(self, context: int) -> np.ndarray:
        return self._rows(np.array([context]))[0]

    def _rows(self, contexts: np.ndarray) -> np.ndarray:
        """(C', M) the law of the next symbol after each of some contexts."""
        symbols = self.model.categories
        if len(contexts) * symbols > LARGEST_TABLE:
            require_table(symbols, self.model.order)
        return probability(self._levels, contexts[:, None], np.arange(symbols))

    def _moved(self, contexts: np.ndarray, joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The contexts that may come next and their law, from the joint law (C', M) of context and symbol."""
        grams = (contexts[:, None] * self.model.categories + np.arange(joint.shape[1])).reshape(-1)
        after, place = np.unique(grams % self.model.categories**self.model.order, return_inverse=True)
        return after, np.bincount(place, weights=joint.reshape(-1), minlength=len(after))

    def _seen(self, series: Sequences) -> tuple[np.ndarray, np.ndarray]:
        """The law of the context at the end of one sequence, given all that is known of it."""
        order, symbols = self.model.order, self.model.categories
        values, known = series.values.numpy().astype(np.int64), series.step_observed.numpy()
        codes = self.model.grams_of(series, order)
        whole = np.flatnonzero(codes >= 0)
        if order == 0 or len(whole) == 0:  # start as sequences of the data do
            contexts, law, first = self.grams.contexts, self.grams.totals / self.grams.totals.sum(), 0
        else:
            contexts, law, first = codes[whole[-1:]] % symbols**order, np.ones(1), int(whole[-1]) + 1
        for step in range(first, len(values)):
            joint = law[:, None] * self._rows(contexts)
            if known[step]:
                joint = np.where(np.arange(symbols) == values[step], joint, 0.0)
            if joint.sum() == 0:
                raise DataError(f"a series to forecast must be possible under the model, got none at step {step}.")
            contexts, law = self._moved(contexts, joint / joint.sum())
        return contexts, law

    def _drawn(self, sizes: list[int], rng: np.random.Generator, start: Any) -> list[np.ndarray]:
        """The symbols of each new sequence."""
        symbols, order = self.model.categories, self.model.order
        size, rows, result = symbols**order, {}, []
        chances = self.grams.totals.cumsum()
        for length in sizes:
            uniforms = rng.random(length + 1)
            if start is None:
                context = int(self.grams.contexts[np.searchsorted(chances, uniforms[-1] * chances[-1], side="right")])
                drawn = [context // symbols**power % symbols for power in range(order)][::-1][:length]
            else:
                context, drawn = self._context(start), []
            for uniform in uniforms[len(drawn) : length]:
                if context not in rows:
                    rows[context] = self._row(context).cumsum()
                row = rows[context]
                symbol = int(np.searchsorted(row, uniform * row[-1], side="right"))
                drawn.append(symbol)
                context = (context * symbols + symbol) % size
            result.append(np.array(drawn))
        return result

    def _start(self, start: Sequence[str] | Sequence[int] | None) -> Tensor:
        if start is None:
            return self.stationary_contexts
        law = torch.zeros(len(self.transition), dtype=torch.float64)
        law[self._context(start)] = 1.0
        return law

    def _context(self, symbols: Sequence[str] | Sequence[int]) -> int:
        """The number of the context that some symbols end with, oldest first."""
        codes = [self._code(symbol) for symbol in symbols]
        if len(codes) < self.model.order:
            raise ModelError(f"a context must hold {self.model.order} symbols, got {len(codes)}; give that many.")
        number = 0
        for code in codes[len(codes) - self.model.order :]:
            number = number * self.model.categories + code
        return number

    def _code(self, symbol: str | int) -> int:
        names = self.categories or ()
        if isinstance(symbol, str) and symbol in names:
            return names.index(symbol)
        if isinstance(symbol, int | np.integer) and 0 <= symbol < self.model.categories:
            return int(symbol)
        known = ", ".join(names[:8]) if names else f"0 .. {self.model.categories - 1}"
        raise ModelError(f"a symbol must be one of the model's, {known}, got {symbol!r}; choose one of them.")

    def _target(self, target: str | int | Collection[str] | Collection[int]) -> list[int]:
        alone = isinstance(target, str | int)
        return [self._code(symbol) for symbol in ([target] if alone else target)]  # type: ignore[list-item]
