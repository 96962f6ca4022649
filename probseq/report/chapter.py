"""One fit and the data it is looked at with: what a report's tables and figures draw from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from probseq.calendar import show_time
from probseq.chains.initial_laws import StationaryInitial
from probseq.diagnostics.replicates import replicates
from probseq.errors import ModelError
from probseq.families import Family
from probseq.inference import Fit
from probseq.models import HMM
from probseq.report import words as say
from probseq.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Chapter:
    """One fit and its data.

    Args:
        title: of the chapter.
        fit: of an HMM.
        series: the data.
        unit: of the data.
        candidates: one row for each number of states tried: states, log_likelihood, n_parameters, aic, bic and
            `failed` (a reason, or empty); None where there was one only.
        command: the command line or call that made the fit.
        seed: of the fit; also of the simulations here.
        horizon: steps of the forecast.
    """

    title: str
    fit: Fit
    series: Sequences
    unit: str = ""
    candidates: pd.DataFrame | None = None
    command: str = ""
    seed: int = 0
    horizon: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.fit.model, HMM):
            raise ModelError(
                "A report must be of an HMM, got a user's own program; draw its figures with probseq.plots."
            )
        self.fit.model.check(self.series)

    @property
    def states(self) -> int:
        """K."""
        assert isinstance(self.fit.model, HMM)
        return self.fit.model.states

    @property
    def family(self) -> Family:
        """Of the emissions."""
        assert isinstance(self.fit.model, HMM)
        return self.fit.model.emission

    @cached_property
    def words(self) -> say.Words:
        """What to call things."""
        return say.words_for(self.series, self.family, self.unit)

    @cached_property
    def rows(self) -> list[say.StateRow]:
        """The states, for a table."""
        return say.state_rows(self.fit, self.series, self.words)

    @cached_property
    def labels(self) -> list[str]:
        """What the states are called in figures: "0 dry spell"."""
        return [f"{row.number} {row.name}" for row in self.rows]

    @property
    def viterbi(self) -> np.ndarray:
        """(T,) the most probable path."""
        return self._posterior.viterbi.numpy()

    @property
    def smoothed(self) -> np.ndarray:
        """(T, K) p(z_t | x)."""
        return self._posterior.smoothed.numpy()

    @cached_property
    def _posterior(self):
        return self.fit.posterior(self.series)

    @cached_property
    def simulations(self) -> list[np.ndarray]:
        """Simulated series (T,) of the same lengths, up to 200 of them, NaN where the data are missing."""
        count = int(np.clip(2_000_000 // self.series.total_steps, 20, 200))
        return list(replicates(self.fit, self.series, count=count, seed=self.seed))

    @cached_property
    def data(self) -> np.ndarray:
        """(T, D) values as numbers, NaN where missing."""
        values = self.series.values.to(torch.float64).reshape(self.series.total_steps, -1)
        if self.series.observed is None:
            return values.numpy()
        return torch.where(self.series.observed.reshape(values.shape), values, torch.nan).numpy()

    @property
    def univariate(self) -> bool:
        """Whether each step is one number or symbol."""
        return self.series.values.dim() == 1

    @property
    def amounts(self) -> bool:
        """Whether values are amounts or counts, to be drawn as bars from zero."""
        return self.series.categories is None and (say.has_extra_zero(self.family) or self.family.discrete)

    @property
    def objective_name(self) -> str:
        """What the fit maximised, or drew from."""
        if self.fit.sampling is not None:
            return "posterior"
        if self.fit.method == "svi":
            return "ELBO"
        return "log posterior" if self.fit.with_priors else "log-likelihood"

    @property
    def has_months(self) -> bool:
        """Whether totals by calendar month mean something: dates, at least 20 a month, over a year or more."""
        time = self.series.time
        if not isinstance(time, pd.DatetimeIndex) or not self.univariate or not say.has_extra_zero(self.family):
            return False
        first = time[self.span(0)].tz_localize(None)
        return len(first) / max(len(first.to_period("M").unique()), 1) >= 20 and len(set(first.month)) == 12

    def time(self, steps: slice) -> pd.Index:
        """The times of some steps of one sequence; their numbers where there is no time."""
        if self.series.time is not None:
            return self.series.time[steps]
        start = int(self.series.offsets[int(self.series.step_sequence[steps.start])])
        return pd.RangeIndex(steps.start - start, steps.stop - start)

    def span(self, sequence: int) -> slice:
        """Where a sequence stands."""
        return slice(int(self.series.offsets[sequence]), int(self.series.offsets[sequence + 1]))

    def period(self) -> str:
        """How much data there is, and from when to when."""
        steps = say.plural(self.series.total_steps, self.words.step)
        if self.series.count > 1:
            steps = f"{self.series.count:,} sequences, {steps}"
        missing = int((~self.series.step_observed).sum())
        if self.series.time is not None:
            first, last = self.series.time.min(), self.series.time.max()
            steps += f", {show_time(first)} to {show_time(last)}"
        return f"{steps}, {missing:,} missing" if missing else steps


def summary_sentence(chapter: Chapter) -> str:
    """The model and its states in a sentence or two."""
    law = "stationary" if isinstance(chapter.fit.model.initial, StationaryInitial) else "free"  # type: ignore[union-attr]
    kind = f"{chapter.family.name} emissions and a {law} initial law"
    if chapter.candidates is not None and len(chapter.candidates) > 1:
        tried = [int(k) for k in chapter.candidates["states"]]
        first = f"Of hidden Markov models with {tried[0]} to {tried[-1]} states, {kind}, BIC chooses {chapter.states}."
    else:
        first = f"A hidden Markov model with {say.plural(chapter.states, 'state')}, {kind}."
    if chapter.fit.converged:
        return first
    return f"{first} The fit did not converge ({chapter.fit.stop_reason}): take the numbers below with care."


def candidate_rows(chapter: Chapter) -> list[dict[str, Any]]:
    """The table of models tried, as text; one row where only one was."""
    fit = chapter.fit
    if chapter.candidates is None:
        rows: Sequence[Mapping[Any, Any]] = [
            {"states": chapter.states, "log_likelihood": fit.log_likelihood, "n_parameters": fit.n_parameters}
            | {"aic": fit.aic, "bic": fit.bic, "failed": ""}
        ]
    else:
        rows = chapter.candidates.to_dict("records")
    return [
        {
            "states": int(row["states"]),
            "chosen": int(row["states"]) == chapter.states,
            "failed": row.get("failed") if isinstance(row.get("failed"), str) else "",
            "cells": _cells(row) if row["bic"] == row["bic"] else [],
        }
        for row in rows
    ]


def _cells(row: Mapping[Any, Any]) -> list[str]:
    count = f"{int(row['n_parameters'])}"
    return [f"{row['log_likelihood']:,.2f}", count, f"{row['aic']:,.1f}", f"{row['bic']:,.1f}"]
