"""How many volatility regimes does the euro-dollar rate need, and are its returns normal within a regime?

Daily log returns since 1999 (ECB). Three models, each fitted by maximum likelihood and then held against the data:
forecast residuals (each return against its law given all before it) must be standard normal and independent, their
squares too; simulated series must have the dependence of the observed one. Standard errors come twice: of the model,
and the sandwich, which holds where the law is not quite the model's.

Found: three normal regimes have the memory of the volatility but not the tails, two Student-t regimes the tails but not
the memory; three Student-t regimes have both, and the lowest BIC. What they miss is the square of one day given the
day before: 0.17 observed, at most 0.11 simulated, and 0.09 without the week of 15 December 2008.
"""

import os

import numpy as np
import pandas as pd

from probseq import HMM, Fit, Sequences, datasets, em, families, plots
from probseq.diagnostics import (
    derived,
    forecast_residuals,
    predictive_check,
    residual_tests,
    sandwich_errors,
    standard_errors,
)
from probseq.diagnostics.dependence import autocorrelations

LAGS = (1, 5, 20, 60)


def log_returns(since: str) -> Sequences:
    """Per cent a day, of US dollars for a euro."""
    rates = datasets.frame("exchange_rates")["USD"].dropna()
    returns = 100.0 * np.log(rates).diff().dropna().loc[since:]
    return Sequences.from_arrays(returns.to_numpy(), time=returns.index, columns=["percent"])


def statistics(length: int) -> dict:
    """What turbulence leaves in a series: fat tails, and volatility that lasts."""

    def memory(values: np.ndarray) -> dict[str, float]:
        return {f"lag {lag}": value for lag, value in zip(LAGS, autocorrelations(values, [length], LAGS), strict=True)}

    return {
        "standard deviation": np.std,
        "largest |return|": lambda y: np.abs(y).max(),
        "99% of |return|": lambda y: np.quantile(np.abs(y), 0.99),
        "share beyond 3 sd": lambda y: np.mean(np.abs(y) > 3 * y.std()),
        "ACF of y,": memory,
        "ACF of |y|,": lambda y: memory(np.abs(y)),
        "ACF of y^2,": lambda y: memory(y**2),
    }


def errors(fit: Fit) -> pd.DataFrame:
    """The regimes' own numbers, with both kinds of standard error."""
    table = standard_errors(fit).table[["estimate", "standard_error", "lower", "upper"]]
    table.insert(2, "sandwich", sandwich_errors(fit).table["standard_error"])
    return table[~table.index.str.startswith(("initial", "transition"))]


def main() -> None:
    quick = "PROBSEQ_QUICK" in os.environ  # the test suite looks at two years and one model
    returns = log_returns("2025" if quick else "1999")
    print(returns)
    models = {
        "3 normal regimes": HMM(3, families.Gaussian()),
        "2 Student-t regimes": HMM(2, families.StudentT()),
        "3 Student-t regimes": HMM(3, families.StudentT()),
    }
    models = {"2 Student-t regimes": models["2 Student-t regimes"]} if quick else models
    picture, grid = plots.figure(14, 3.1 * len(models), len(models), 3, width_ratios=[1, 1.2, 1.6], squeeze=False)
    for row, (name, model) in zip(grid, models.items(), strict=True):
        fit = em(model, returns, restarts=1 if quick else 3, seed=0)
        residuals = forecast_residuals(fit)
        tests = residual_tests(residuals, lags=LAGS).set_index(["test", "of", "lags"])
        checks = predictive_check(fit, statistics=statistics(returns.total_steps), replicates=20 if quick else 300)
        print(f"\n{name}: log-likelihood {fit.log_likelihood:.1f}, BIC {fit.bic:.1f}")
        print(errors(fit).round(3).to_string())
        print(derived(fit, "mean_stay").table.round(0).to_string())
        print(tests.round(4).to_string())
        print(checks.round(3).to_string())
        plots.residual_quantiles(row[0], residuals)
        row[0].set_title(f"{name}, BIC {fit.bic:.0f}", loc="left", fontweight="bold", fontsize=10.5)
        plots.residual_autocorrelation(row[1], residuals, lags=60, squared=True)
        plots.predictive_check(row[2], checks)
    picture.savefig("exchange_rates_diagnosed.png")


if __name__ == "__main__":
    main()
