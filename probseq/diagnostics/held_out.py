"""What cross-validation has in common: its result, the fits and data that it may look at, and what it leaves out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from probseq.errors import DataError, ModelError
from probseq.inference.fit import Fit
from probseq.sequences import Sequences

SAME = 1e-9
"""Nats by which log ratios differ at most that are the same but for rounding."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """How each part of the data was foretold by fits that had not seen it.

    Args:
        table: one row a part, with `elpd`, nats, the log predictive density of the part, and `fitted`, whether the
            model was fitted for it.
        interrupted: whether the user stopped before the end; the table is what there was.
    """

    table: pd.DataFrame
    interrupted: bool = False

    @property
    def elpd(self) -> float:
        """Nats: sum over the parts."""
        return float(self.table["elpd"].sum())

    @property
    def se(self) -> float:
        """Nats: standard error of `elpd`, the parts taken as independent."""
        return float(np.sqrt(len(self.table)) * self.table["elpd"].std(ddof=0))

    @property
    def fits(self) -> int:
        """How many times the model was fitted."""
        return int(self.table["fitted"].sum())


def require_draws(fit: Fit, what: str, remedy: str) -> None:
    """Refuse a point fit.

    Raises:
        ModelError: there is one draw.
    """
    if fit.n_draws < 2:
        raise ModelError(
            f"{what} must have draws of the parameters' posterior, got the point of {fit.method}; fit by gibbs, nuts, "
            f"or svi with a guide of several draws, or {remedy}."
        )


def require_fitted_data(fit: Fit, series: Sequences | None, what: str) -> Sequences:
    """The data that the draws were given: what is left out must have been in.

    Raises:
        DataError: the series is another one.
    """
    series = fit.data(series)
    if series.fingerprint() != fit.fingerprint:
        raise DataError(
            f"{what} must look at the data that was fitted, got another series; pass that one, or score new data by "
            "fit.log_prob."
        )
    return series


def refuse_weights(series: Sequences, what: str) -> None:
    """Refuse sequences that count more or less than once.

    Raises:
        ModelError: they have weights.
    """
    if series.weights is not None:
        raise ModelError(
            f"{what} must be of sequences that count once each, got weights; repeat sequences instead (series.take)."
        )


def smoothed_weights(log_ratios: np.ndarray, share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Pareto-smoothed importance weights (Vehtari et al. 2024).

    Args:
        log_ratios: (n, S) nats, of S draws, but for a constant of each row.
        share: effective sample size of the draws over S.

    Returns:
        (n, S) logarithms of weights that sum to one, and (n,) the Pareto shape k: zero where the draws are not told
        apart at all.
    """
    from arviz_stats.base.array import array_stats

    psislw: Any = array_stats.psislw
    weights, shapes = np.full(log_ratios.shape, -np.log(log_ratios.shape[1])), np.zeros(len(log_ratios))
    apart = np.flatnonzero(~(log_ratios.max(1) - log_ratios.min(1) <= SAME))
    if apart.size:
        weights[apart], shapes[apart] = psislw(-log_ratios[apart], r_eff=share)
    return weights, shapes


def hide_step(series: Sequences, step: int) -> Sequences:
    """The series with one more step missing, and nothing known of its state."""
    observed = torch.ones_like(series.values, dtype=torch.bool) if series.observed is None else series.observed.clone()
    observed[step] = False
    labels = series.labels
    if labels is not None:
        labels = labels.clone()
        labels[step] = -1 if labels.ndim == 1 else 1.0
    return replace(series, observed=observed, labels=labels)
