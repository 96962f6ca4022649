"""The posterior of every parameter in one line each."""

from __future__ import annotations

import numpy as np
import pandas as pd

from probseq.diagnostics.convergence import convergence, numbers_by_name
from probseq.errors import FitError
from probseq.inference.fit import Fit


def posterior_summary(fit: Fit, probability: float = 0.9) -> pd.DataFrame:
    """Mean, spread, interval and convergence of every number that was sampled.

    Args:
        fit: with draws; relabel them first (`relabel_ecr`), or states that changed names are averaged with each other.
        probability: of the interval between equal tails, in (0, 1).

    Returns:
        One row for each number that is not the same in all draws, named as in `transition[0, 1]`, with columns `mean`,
        `sd`, the ends of the interval (`q5` and `q95` of 0.9), and `rhat`, `ess_bulk`, `ess_tail`, `split` as of
        `convergence`.

    Raises:
        FitError: the fit is a point.
    """
    if fit.n_draws < 2:
        raise FitError(
            f"A posterior must be summed up from draws, got the one point of {fit.method}; fit with nuts or gibbs, or "
            "take the point's standard_errors."
        )
    if not 0 < probability < 1:
        raise FitError(f"probability must lie between 0 and 1, got {probability}; 0.9 is an interval of 90%.")
    agreement = convergence(fit)
    names, numbers = numbers_by_name(fit.draws)
    ends = (1.0 - probability) / 2, (1.0 + probability) / 2
    columns = {"mean": numbers.mean(0), "sd": numbers.std(0, ddof=1)}
    columns |= {f"q{100 * end:.3g}": np.quantile(numbers, end, axis=0) for end in ends}
    return pd.DataFrame(columns, index=pd.Index(names, name="parameter")).loc[agreement.index].join(agreement)
