"""Are residuals uniform, normal and independent? Tests of them, each with its statistic, p-value and verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import log_ndtr

from probseq.errors import DataError

DOUBT, REJECTED = 0.05, 0.001
"""p-values below which a verdict is in doubt, and rejected."""


def residual_tests(
    residuals: pd.DataFrame, *, lags: Sequence[int] = (1, 5, 10, 20), sequence: str | None = None
) -> pd.DataFrame:
    """Tests of a frame of residuals against what they are under the right model.

    Kolmogorov-Smirnov of `uniform`; of `normal` Anderson-Darling against the standard normal law and Jarque-Bera
    (skewness and kurtosis); Ljung-Box of `normal` and of its squares, whose dependence is that of the spread. Under
    parameters that were fitted to the same data the p-values are too large, the more so the more parameters there are.
    Independence is a property of forecast residuals; ordinary ones are dependent even under the right model.

    Args:
        residuals: of `ordinary_residuals` or `forecast_residuals`; steps with NaN are left out.
        lags: of Ljung-Box, each statistic over lags 1 to that; those of a third of the steps or more are left out.
        sequence: the column that names the sequences, where there are several; known for a frame made here.

    Returns:
        one row a test: `column` (where there are several), `test`, `of`, `lags`, `statistic`, `p_value`, `verdict`.
    """
    names = [name for name in residuals.columns if str(name) == "uniform" or str(name).startswith("uniform_")]
    if not names:
        raise DataError(
            f"residuals must have a column uniform, got {', '.join(map(str, residuals.columns))}; give a frame of "
            "forecast_residuals or ordinary_residuals."
        )
    group = sequence if sequence is not None else residuals.attrs.get("sequence")
    parts = [np.arange(len(residuals))]
    if group is not None:
        parts = list(residuals.groupby(group, sort=False).indices.values())
    rows = []
    for name in names:
        uniform, normal = (residuals[kind + str(name)[7:]].to_numpy(float) for kind in ("uniform", "normal"))
        for row in _tests(uniform, [normal[part] for part in parts], lags):
            column = {} if len(names) == 1 else {"column": str(name)[8:]}
            rows.append(column | row | {"verdict": verdict(row["p_value"])})
    return pd.DataFrame(rows)


def verdict(p_value: float) -> str:
    """What a p-value says, in words."""
    if not p_value >= 0:
        return "too few residuals to tell"
    if p_value < REJECTED:
        return f"rejected (p < {REJECTED:g})"
    return f"in doubt (p < {DOUBT:g})" if p_value < DOUBT else "no objection"


def _tests(uniform: np.ndarray, normal: Sequence[np.ndarray], lags: Sequence[int]) -> list[dict[str, Any]]:
    u, z = uniform[~np.isnan(uniform)], np.concatenate(list(normal))
    z = z[~np.isnan(z)]
    if len(z) < 3 or not np.isfinite(z).all():
        raise DataError(
            f"residuals to test must be three or more, all finite, got {len(z)} of which {int(np.isinf(z).sum())} "
            "infinite; an infinite one is of an observation that the model makes impossible."
        )
    found = [
        ("Kolmogorov-Smirnov", "uniform", 0, *stats.kstest(u, "uniform")),
        ("Anderson-Darling", "normal", 0, *anderson_darling(z)),
        ("Jarque-Bera", "normal", 0, *stats.jarque_bera(z)),
    ]
    for kind, power in (("normal", 1), ("normal squared", 2)):
        for lag in sorted(set(lags)):
            if lag < len(z) / 3:
                found.append(("Ljung-Box", kind, lag, *ljung_box([part**power for part in normal], lag)))
    keys = ("test", "of", "lags", "statistic", "p_value")
    return [dict(zip(keys, (*row[:3], float(row[3]), float(row[4])), strict=True)) for row in found]


def ljung_box(series: Sequence[np.ndarray], lags: int) -> tuple[float, float]:
    """Q = n (n + 2) sum_k r_k^2 / n_k, chi-squared with `lags` degrees of freedom where there is no dependence.

    Ljung & Box (1978), where n_k = n - k; here n_k is how many pairs k steps apart are known, so that missing steps and
    the ends of sequences take the part that they should.

    Args:
        series: sequences of numbers, NaN where missing.
        lags: h, summed over lags 1 to h.

    Returns:
        the statistic and its p-value.
    """
    known = np.concatenate([part[~np.isnan(part)] for part in series])
    centred = [np.where(np.isnan(part), 0.0, part - known.mean()) for part in series]
    seen = [(~np.isnan(part)).astype(float) for part in series]
    count, power = len(known), sum(float(part @ part) for part in centred)
    total = 0.0
    for lag in range(1, lags + 1):
        pairs = sum(float(part[lag:] @ part[:-lag]) for part in seen if len(part) > lag)
        product = sum(float(part[lag:] @ part[:-lag]) for part in centred if len(part) > lag)
        if pairs > 0 and power > 0:
            total += (product / power) ** 2 / pairs
    statistic = count * (count + 2) * total
    return statistic, float(stats.chi2.sf(statistic, lags))


def anderson_darling(values: np.ndarray) -> tuple[float, float]:
    """A^2 against the standard normal law, nothing estimated (Anderson & Darling 1954), and its asymptotic p-value.

    The p-value is by the approximation of Marsaglia & Marsaglia (2004), good to 1e-5.

    >>> statistic, p_value = anderson_darling(stats.norm.ppf((np.arange(100) + 0.5) / 100))
    >>> p_value > 0.999
    True
    """
    ordered = np.sort(values)
    count = len(ordered)
    odd = 2 * np.arange(1, count + 1) - 1
    statistic = float(-count - (odd * (log_ndtr(ordered) + log_ndtr(-ordered[::-1]))).sum() / count)
    return statistic, _anderson_darling_p(statistic)


def _anderson_darling_p(a: float) -> float:
    if a < 2:
        series = 2.00012 + (0.247105 - (0.0649821 - (0.0347962 - (0.011672 - 0.00168691 * a) * a) * a) * a) * a
        return float(1 - np.exp(-1.2337141 / a) / np.sqrt(a) * series)
    inner = 1.0776 - (2.30695 - (0.43424 - (0.082433 - (0.008056 - 0.0003146 * a) * a) * a) * a) * a
    return float(-np.expm1(-np.exp(inner)))
