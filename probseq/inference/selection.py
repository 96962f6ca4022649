"""Which of several models: fit each to the same data and take the one with the lowest criterion.

BIC = p log n - 2 log L (Schwarz 1978) by default; AIC = 2 p - 2 log L (Akaike 1974) is beside it in the table.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd

from probseq.errors import FitError
from probseq.inference.expectation_maximisation import em
from probseq.inference.fit import Fit
from probseq.models.hmm import HMM
from probseq.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Candidate:
    """One model that was tried.

    Args:
        model: as given.
        fit: None where it failed.
        failed: why it failed, in words; empty where it did not.
    """

    model: HMM
    fit: Fit | None
    failed: str = ""


@dataclass(frozen=True, eq=False)
class Selection:
    """Several fitted models, and the one with the lowest criterion.

    Args:
        candidates: in the order given.
        criterion: "bic" or "aic".
    """

    candidates: tuple[Candidate, ...]
    criterion: str = "bic"

    @property
    def fits(self) -> tuple[Fit, ...]:
        """Those that did not fail."""
        return tuple(candidate.fit for candidate in self.candidates if candidate.fit is not None)

    @property
    def best(self) -> Fit:
        """The fit with the lowest criterion; the first of equals."""
        return min(self.fits, key=lambda fit: getattr(fit, self.criterion))

    @property
    def table(self) -> pd.DataFrame:
        """One row a candidate: states, log_likelihood, n_parameters, aic, bic, converged, chosen, failed."""
        rows = []
        for candidate in self.candidates:
            fit = candidate.fit
            rows.append(
                {
                    "states": candidate.model.states,
                    "log_likelihood": math.nan if fit is None else fit.log_likelihood,
                    "n_parameters": math.nan if fit is None else fit.n_parameters,
                    "aic": math.nan if fit is None else fit.aic,
                    "bic": math.nan if fit is None else fit.bic,
                    "converged": fit is not None and fit.converged,
                    "chosen": fit is self.best,
                    "failed": candidate.failed,
                }
            )
        return pd.DataFrame(rows)


def select(
    models: Iterable[HMM],
    series: Sequences,
    *,
    method: Callable[..., Fit] = em,
    criterion: str = "bic",
    **options: Any,
) -> Selection:
    """Fit each model to the same series; the lowest criterion wins.

    A model that cannot be fitted (`FitError`: every start ended with an unusable state) is passed over and says why. An
    interrupt ends the search with what there is.

    Args:
        models: to compare, such as `[HMM(k, family) for k in range(1, 5)]`.
        series: the data.
        method: `em` or `svi`.
        criterion: "bic" or "aic".
        options: of the method, such as `restarts` and `seed`.

    Raises:
        FitError: none could be fitted; the message is that of the first.
    """
    if criterion not in ("aic", "bic"):
        raise FitError(f"criterion must be 'aic' or 'bic', got {criterion!r}; choose one of the two.")
    candidates: list[Candidate] = []
    for model in models:
        try:
            with _named_warnings(model):
                fit = method(model, series, **options)
        except FitError as error:
            candidates.append(Candidate(model, None, str(error)))
            continue
        except KeyboardInterrupt:
            if not any(candidate.fit for candidate in candidates):
                raise
            break
        candidates.append(Candidate(model, fit))
        if fit.stop_reason.startswith("interrupted"):
            break
    if not candidates:
        raise FitError("select must be given at least one model, got none; pass one HMM for each number of states.")
    if not any(candidate.fit for candidate in candidates):
        raise FitError(candidates[0].failed)
    return Selection(tuple(candidates), criterion)


@contextmanager
def _named_warnings(model: HMM) -> Iterator[None]:
    """Warnings raised inside say which model they are about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        number = f"{model.states} state{'' if model.states == 1 else 's'}"
        warnings.warn(f"{number}: {warning.message}", warning.category, stacklevel=4)
