"""The emission's part of the E-step and of the M-step: a table of distinct rows, or the sums of an exponential family.

Where observations repeat (symbols, counts, rounded rainfall) the table of their log-likelihoods is small. Where they do
not and the family is exponential, its natural parameters and statistics say the same without a table of T rows; see
`families.linear_form`. Where neither holds there is one row a step. A row is an observation with its context
(`probseq.context`); what is worked out of a series is kept for as long as the series is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from probseq.chains.state_sequence import ChainCounts
from probseq.families.family import Family, Priors
from probseq.families.linear_form import LinearForm
from probseq.places import step_place
from probseq.sequences import Sequences

REPEATED = 0.5
"""Share of distinct rows among the steps up to which a table of them is the shorter way."""

_KNOWN: WeakKeyDictionary[Sequences, dict[Family, EmissionData]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class EmissionCounts:
    """What an M-step needs to know of the observations.

    Args:
        expected: (R, K^f) expected number of times that each state, or code of the last f states, emitted each row; or
            (P, K^f), the sums of the statistics of a linear form over them.
        by_sums: which of the two.
    """

    expected: Tensor
    by_sums: bool


@dataclass(frozen=True, eq=False)
class ExpectedCounts:
    """What an M-step needs to know of the data.

    Args:
        log_likelihood: nats, weighted sum over sequences, at the parameters of the E-step.
        chain: of the hidden path.
        emission: of the observations.
    """

    log_likelihood: float
    chain: ChainCounts
    emission: EmissionCounts


@dataclass(frozen=True, eq=False)
class EmissionData:
    """The observations of a series as one family sees them, worked out once.

    Args:
        family: of the emissions.
        rows: (R, *row) distinct rows.
        index: (T,) the row of each step.
        missing_row: the row of every step without a score, or None.
        dense: whether step t has row t.
        form: (T, P) statistics where the sums of an exponential family are the shorter way.
    """

    family: Family
    rows: Tensor
    index: np.ndarray
    missing_row: int | None
    dense: bool
    form: LinearForm | None

    def log_table(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """(..., R, K^f) nats: log-likelihood of each distinct row; zero for the missing row."""
        table = self.family.log_prob(self.rows, parameters)
        if self.missing_row is not None:
            table = table.index_fill(-2, torch.tensor([self.missing_row]), 0.0)
        return table

    def scores(
        self, parameters: Mapping[str, Tensor], by_sums: bool = True
    ) -> tuple[Tensor | np.ndarray, np.ndarray | None]:
        """A table (..., R, K^f) and the row of each step, or natural parameters (..., P, K) and statistics (T, P).

        Args:
            parameters: of the family, state first.
            by_sums: use the linear form where there is one that keeps its digits.
        """
        if by_sums and self.form is not None:
            natural = self.family.natural(self.form, parameters)
            if natural is not None:
                return natural, self.form.statistics
        return self.log_table(parameters), None if self.dense else self.index

    def counts(self, expected: Tensor, index: np.ndarray | None) -> EmissionCounts:
        """The expected counts on the table that goes with this index, as the chain gives them."""
        by_sums = index is not None and index.ndim == 2
        if self.missing_row is not None and not by_sums:
            expected[self.missing_row] = 0.0
        return EmissionCounts(expected, by_sums)

    def maximise(
        self, counts: EmissionCounts, current: Mapping[str, Tensor], priors: Priors | None
    ) -> dict[str, Tensor] | None:
        """The family's M-step; None where sums alone would cost digits and the counts of the rows are wanted."""
        if counts.by_sums:
            assert self.form is not None
            return self.family.maximise_sums(self.form, counts.expected, current, priors)
        if priors is None:
            return self.family.maximise(self.rows, counts.expected, current)
        return self.family.maximise_posterior(self.rows, counts.expected, current, priors)

    @cached_property
    def scored(self) -> Tensor:
        """(T,) bool: steps with a score: measured, with all their lags."""
        if self.missing_row is None:
            return torch.ones(len(self.index), dtype=torch.bool)
        return torch.from_numpy(self.index != self.missing_row)

    @property
    def context(self) -> Tensor | None:
        """(T, W - D) what stands beside each observation; None without a context."""
        if not self.family.context:
            return None
        columns = self.family.context.columns(self.rows.shape[1])
        return self.rows[:, columns:][torch.from_numpy(self.index.astype(np.int64))]


def emission_data(family: Family, series: Sequences) -> EmissionData:
    """The observations of a series as the family sees them."""
    known = _KNOWN.setdefault(series, {})
    data = known.get(family)
    if data is None:
        distinct = series.distinct(family.context, family.partly_missing)
        index = None if distinct.dense else distinct.index
        form = None
        if len(distinct.rows) > REPEATED * series.total_steps:
            of_rows = family.linear_form(distinct.rows)
            form = None if of_rows is None else of_rows.of_steps(index, distinct.missing_row)
        rows = (distinct.rows, distinct.index, distinct.missing_row, distinct.dense)
        data = known[family] = EmissionData(family, *rows, form)
    return data


def observed_rows(family: Family, series: Sequences) -> Tensor:
    """(., *row) the rows of all steps that have a score, for priors; of symbols with lags each distinct row once."""
    if not (family.context or family.partly_missing):
        return series.values if series.observed is None else series.values[series.step_observed]
    data = emission_data(family, series)
    if series.values.dtype == torch.uint8:
        return data.rows if data.missing_row is None else data.rows[: data.missing_row]
    return data.rows[torch.from_numpy(data.index.astype(np.int64))[data.scored]]


def observations(family: Family, series: Sequences) -> Tensor:
    """(T, *event) float64 what the program observes; NaN at the missing entries of vectors measured in part."""
    values = series.values if series.values.is_floating_point() else series.values.double()
    if not family.partly_missing or series.observed is None or series.observed.ndim == 1:
        return values
    gap = ~series.observed & series.observed.any(1, keepdim=True)
    return torch.where(gap, torch.nan, values)


def check(family: Family, series: Sequences) -> None:
    """Refuse data that the family cannot have produced; rows with a context are looked at once each."""
    place = step_place(series)
    if not family.context:
        family.check(series.values, series.observed, columns=series.columns, where=place)
        return
    data = emission_data(family, series)
    present, first = np.unique(data.index, return_index=True)
    kept = present != (-1 if data.missing_row is None else data.missing_row)
    rows, steps = data.rows[torch.from_numpy(present[kept].astype(np.int64))], first[kept]
    family.check(rows, None, columns=series.columns, where=lambda row: place(int(steps[row])))
