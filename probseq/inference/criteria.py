"""Information criteria: how well a model fits its data against how many parameters that took; the lowest is best.

    AIC  = 2 p - 2 log L                     (Akaike 1974)
    AICc = AIC + 2 p (p + 1) / (n - p - 1)   (Hurvich and Tsai 1989)
    BIC  = p log n - 2 log L                 (Schwarz 1978)
    HQIC = 2 p log log n - 2 log L           (Hannan and Quinn 1979)
    ICL  = p log n - 2 log p(y, z)           (Biernacki, Celeux and Govaert 2000)

with p free parameters, n steps that have a score, L the likelihood at the fitted point, and z the Viterbi path, as
Celeux and Durand (2008) take it for hidden Markov models: ICL adds to BIC what the path is in doubt by, so it asks for
states that can be told apart. They compare models of the same n steps only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from probseq.chains.state_sequence import weighted_sum
from probseq.errors import DataError, ModelError
from probseq.inference.fit import Fit
from probseq.sequences import Sequences

CRITERIA = ("aic", "aicc", "bic", "hqic", "icl")


def criterion_of(fit: Fit, name: str, series: Sequences | None = None) -> float:
    """One criterion of a fit.

    Args:
        fit: of any method; its point counts.
        name: one of `CRITERIA`.
        series: the data that was fitted, for ICL; None is what the fit holds.
    """
    p, n = fit.n_parameters, fit.observations
    if name == "aicc":
        return fit.aic + (2.0 * p * (p + 1) / (n - p - 1) if n > p + 1 else math.inf)
    if name == "hqic":
        return 2.0 * p * math.log(math.log(n)) - 2.0 * fit.log_likelihood if n > 1 else -math.inf
    return icl(fit, series) if name == "icl" else getattr(fit, name)


def icl(fit: Fit, series: Sequences | None = None) -> float:
    """BIC - 2 log p(z | y), z the Viterbi path: the integrated completed likelihood.

    Args:
        fit: of one hidden chain.
        series: the data that was fitted; None is what the fit holds.

    Raises:
        DataError: the series is not the one that was fitted.
    """
    series = fit.data(series)
    if series.fingerprint() != fit.fingerprint:
        raise DataError("ICL must be of the data that was fitted, got another series; pass that one.")
    path = fit.posterior(series)
    return fit.bic - 2.0 * float(weighted_sum(path.viterbi_log_prob - path.log_evidence, series.weights))


def criteria(fits: Fit | Mapping[str, Fit], series: Sequences | None = None) -> pd.DataFrame:
    """All criteria of one fit or several, by name.

    Args:
        fits: one, or name -> fit.
        series: the data that was fitted; None is what each fit holds.

    Returns:
        One row a fit: `log_likelihood`, `n_parameters`, `observations`, and the `CRITERIA`; each is nats times two.

    Raises:
        ModelError: the fits score different numbers of steps.
    """
    named = {"fit": fits} if isinstance(fits, Fit) else dict(fits)
    require_same_steps({name: fit.observations for name, fit in named.items()}, "criteria")
    rows = [
        {
            "log_likelihood": fit.log_likelihood,
            "n_parameters": fit.n_parameters,
            "observations": fit.observations,
            **{name: criterion_of(fit, name, series) for name in CRITERIA},
        }
        for fit in named.values()
    ]
    return pd.DataFrame(rows, index=pd.Index(list(named), name="model"))


def require_same_steps(scored: Mapping[str, int], what: str) -> None:
    """Refuse to compare likelihoods of different numbers of observations, as of models with different lags.

    Raises:
        ModelError: the numbers differ; it names two.
    """
    (first, count), *others = scored.items()
    for name, other in others:
        if other != count:
            raise ModelError(
                f"{what} must compare models that score the same steps, got {count:,} steps of {first} and {other:,} "
                f"of {name}; where one has more lags, fit the other to the series without as many first steps "
                "(series.split(1)[1] for one)."
            )
