"""The emission's part of the E-step and of the M-step: a table of distinct rows, or the sums of an exponential family.

Where observations repeat (symbols, counts, rounded rainfall) the table of their log-likelihoods is small. Where they do
not and the family is exponential, its natural parameters and statistics say the same without a table of T rows; see
`families.linear_form`. Where neither holds there is one row a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from probseq.families.family import Family, Priors
from probseq.families.linear_form import LinearForm
from probseq.sequences import Sequences

REPEATED = 0.5
"""Share of distinct rows among the steps up to which a table of them is the shorter way."""

_KNOWN: WeakKeyDictionary[Sequences, dict[Family, EmissionData]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class EmissionCounts:
    """What an M-step needs to know of the observations.

    Args:
        expected: (R, K) expected number of times that each state emitted each row; or (P, K), the sums of the
            statistics of a linear form over them.
        by_sums: which of the two.
    """

    expected: Tensor
    by_sums: bool


@dataclass(frozen=True, eq=False)
class EmissionData:
    """The observations of a series as one family sees them, worked out once.

    Args:
        family: of the emissions.
        rows: (R, *event) distinct observations.
        index: (T,) the row of each step; None where step t has row t.
        missing_row: the row of missing steps, or None.
        form: (T, P) statistics where the sums of an exponential family are the shorter way.
    """

    family: Family
    rows: Tensor
    index: np.ndarray | None
    missing_row: int | None
    form: LinearForm | None

    def log_table(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """(..., R, K) nats: log-likelihood of each distinct row; zero for the missing row."""
        table = self.family.log_prob(self.rows, parameters)
        if self.missing_row is not None:
            table = table.index_fill(-2, torch.tensor([self.missing_row]), 0.0)
        return table

    def scores(
        self, parameters: Mapping[str, Tensor], by_sums: bool = True
    ) -> tuple[Tensor | np.ndarray, np.ndarray | None]:
        """A table (..., R, K) and the row of each step, or natural parameters (..., P, K) and statistics (T, P).

        Args:
            parameters: of the family, state first.
            by_sums: use the linear form where there is one that keeps its digits.
        """
        if by_sums and self.form is not None:
            natural = self.family.natural(self.form, parameters)
            if natural is not None:
                return natural, self.form.statistics
        return self.log_table(parameters), self.index

    def counts(self, expected: np.ndarray, index: np.ndarray | None) -> EmissionCounts:
        """The expected counts on the table that goes with this index, as the kernels give them."""
        by_sums = index is not None and index.ndim == 2
        found = torch.from_numpy(expected)
        if self.missing_row is not None and not by_sums:
            found[self.missing_row] = 0.0
        return EmissionCounts(found, by_sums)

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


def emission_data(family: Family, series: Sequences) -> EmissionData:
    """The observations of a series as the family sees them."""
    known = _KNOWN.setdefault(series, {})
    data = known.get(family)
    if data is None:
        distinct = series.distinct()
        index = None if distinct.dense else distinct.index
        form = None
        if len(distinct.rows) > REPEATED * series.total_steps:
            of_rows = family.linear_form(distinct.rows)
            form = None if of_rows is None else of_rows.of_steps(index, distinct.missing_row)
        data = known[family] = EmissionData(family, distinct.rows, index, distinct.missing_row, form)
    return data
