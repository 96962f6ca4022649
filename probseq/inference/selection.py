"""Which of several models: fit each to the same data and take the one with the lowest criterion.

BIC by default; the other criteria (`inference.criteria`) stand beside it in the table.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from probseq.errors import FitError
from probseq.inference.criteria import CRITERIA, criterion_of, require_same_steps
from probseq.inference.expectation_maximisation import em
from probseq.inference.fit import Fit, observed_steps
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
        criterion: one of `criteria.CRITERIA`.
    """

    candidates: tuple[Candidate, ...]
    criterion: str = "bic"

    @property
    def fits(self) -> tuple[Fit, ...]:
        """Those that did not fail."""
        return tuple(candidate.fit for candidate in self.candidates if candidate.fit is not None)

    @cached_property
    def best(self) -> Fit:
        """The fit with the lowest criterion; the first of equals."""
        return min(self.fits, key=lambda fit: self._criteria[id(fit)][self.criterion])

    @property
    def table(self) -> pd.DataFrame:
        """One row a candidate: states, log_likelihood, n_parameters, the criteria, converged, chosen, failed."""
        rows = []
        for candidate in self.candidates:
            fit = candidate.fit
            values: dict[str, float] = {name: math.nan for name in CRITERIA}
            if fit is not None:
                values = self._criteria[id(fit)]
            rows.append(
                {
                    "states": candidate.model.states,
                    "log_likelihood": math.nan if fit is None else fit.log_likelihood,
                    "n_parameters": math.nan if fit is None else fit.n_parameters,
                    **values,
                    "converged": fit is not None and fit.converged,
                    "chosen": fit is self.best,
                    "failed": candidate.failed,
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def _criteria(self) -> dict[int, dict[str, float]]:
        """Of each fit, by its identity."""
        return {id(fit): {name: criterion_of(fit, name) for name in CRITERIA} for fit in self.fits}


def select(
    models: Iterable[HMM],
    series: Sequences,
    *,
    method: Callable[..., Fit] = em,
    criterion: str = "bic",
    **options: Any,
) -> Selection:
    """Fit each model to the same series; the lowest criterion wins.

    A model that cannot be fitted (`FitError`: every start ended with an unusable state) is passed over and says why, as
    are those with fewer states than the labels of the series name. An interrupt ends the search with what there is.

    Args:
        models: to compare, such as `[HMM(k, family) for k in range(1, 5)]`.
        series: the data.
        method: `em` or `svi`.
        criterion: "bic", "aic", "aicc", "hqic" or "icl".
        options: of the method, such as `restarts` and `seed`.

    Raises:
        FitError: none could be fitted; the message is that of the first.
        ModelError: models that score different steps, having different lags.
    """
    models = list(models)
    if criterion not in CRITERIA:
        raise FitError(f"criterion must be one of {', '.join(CRITERIA)}, got {criterion!r}; choose one of them.")
    if len({(model.emission.context.lags, model.emission.partly_missing) for model in models}) > 1:
        bound = {f"model {number} (from 0)": model.bind(series) for number, model in enumerate(models)}
        require_same_steps({name: observed_steps(model, series) for name, model in bound.items()}, "select")
    candidates: list[Candidate] = []
    unfit = [_against_labels(model, series) for model in models]
    for model, why in zip(models, unfit, strict=True):
        if why and not all(unfit):
            candidates.append(Candidate(model, None, why))
            continue
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


def _against_labels(model: HMM, series: Sequences) -> str:
    """Why the labels of a series rule a model out; empty where they do not."""
    if series.labels is None:
        return ""
    if series.labels.ndim == 2:
        columns = series.labels.shape[1]
        return f"the labels are of {columns} states" if columns != model.states else ""
    highest = int(series.labels.max()) if len(series.labels) else -1
    return f"the labels name state {highest}, which it lacks" if highest >= model.states else ""


@contextmanager
def _named_warnings(model: HMM) -> Iterator[None]:
    """Warnings raised inside say which model they are about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        number = f"{model.states} state{'' if model.states == 1 else 's'}"
        warnings.warn(f"{number}: {warning.message}", warning.category, stacklevel=4)
