"""What does a rainfall model that ignores the date miss at Seattle, and is it mended by a model that knows the date?

Three regimes of hurdle-gamma rain, chosen by BIC among two to four; then two and three whose moves follow a yearly
cosine and sine. Each is held against the data: forecast residuals (each day against its law given the days before it)
must be standard normal, independent, and the same in all months; simulated series must have the spells, the monthly
totals and the monthly extremes of the observed one. Of statistics outside their bands one in ten is chance.

Found: without the date the law of a single day is right and the calendar is wrong, too wet from June to August, too
dry in November, December and March. The date mends it. Of the models that know it BIC takes two regimes, but they miss
the memory from day to day: autocorrelation 0.31 observed, at most 0.24 simulated. Nothing much objects to three.
"""

import os

import numpy as np
import pandas as pd
from scipy import stats

from probseq import HMM, Design, Fit, Season, Sequences, datasets, em, families, plots
from probseq.chains import LogitTransitions
from probseq.diagnostics import derived, forecast_residuals, predictive_check, residual_tests, standard_errors
from probseq.plots.style import GRID, INK, MODEL, dress

RAIN = families.Hurdle(families.Gamma())
MONTHS = "JFMAMJJASOND"


def by_month(residuals: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """Mean residual of each calendar month with its 95% interval under the model, and a test that all months agree."""
    groups = residuals["normal"].dropna().groupby(lambda day: day.month)
    table = pd.DataFrame({"mean": groups.mean(), "reach": 1.96 / np.sqrt(groups.size())})
    return table, float(stats.f_oneway(*[group for _, group in groups]).pvalue)


def month_panel(axes, table: pd.DataFrame, p_value: float) -> None:
    """Twelve means: dots outside the bars are months that the model gets wrong."""
    x = np.arange(12)
    axes.bar(x, 2 * table["reach"], 0.7, -table["reach"], color=GRID)
    axes.plot(x, table["mean"], "o", color=MODEL, markersize=5)
    axes.axhline(0.0, color=INK, linewidth=0.6)
    axes.set_ylim(-0.6, 0.6)
    axes.set_xticks(x, list(MONTHS))
    dress(axes, y="mean residual", title=f"By month: p = {p_value:.2g} that all agree")


def diagnose(row, name: str, fit: Fit, rain: Sequences, replicates: int) -> None:
    """Numbers printed, panels drawn."""
    residuals = forecast_residuals(fit)
    tests = residual_tests(residuals, lags=(1, 5, 20, 60)).set_index(["test", "of", "lags"])
    months, p_value = by_month(residuals)
    checks = predictive_check(fit, replicates=replicates, seed=1)
    print(f"\n{name}: log-likelihood {fit.log_likelihood:.1f}, BIC {fit.bic:.1f}")
    print(tests.round(4).to_string())
    print(
        f"months agree: p = {p_value:.2g}; worst {months['mean'].abs().idxmax()}: {months['mean'].round(2).to_list()}"
    )
    print(f"{int(checks['inside'].sum())} of {len(checks)} statistics inside their bands of 90%; outside:")
    print(checks[~checks["inside"]].round(3).to_string())
    plots.residual_quantiles(row[0], residuals)
    row[0].set_title(f"{name}, BIC {fit.bic:.0f}", loc="left", fontweight="bold", fontsize=10.5)
    plots.residual_autocorrelation(row[1], residuals, lags=60)
    month_panel(row[2], months, p_value)
    plots.predictive_check(row[3], checks[checks.index.str.contains("ACF|month|spell")])


def main() -> None:
    quick = "PROBSEQ_QUICK" in os.environ  # the test suite asks for two years, fewer models and simulations
    rain = datasets.rainfall("Seattle")
    rain = rain.split("2014-01-01")[1] if quick else rain
    options = {"priors": True, "restarts": 1 if quick else 3, "seed": 1}
    found = {k: em(HMM(k, RAIN), rain, **options) for k in ((2,) if quick else (2, 3, 4))}
    print({f"BIC of {k} regimes": round(fit.bic, 1) for k, fit in found.items()})
    plain = min(found.values(), key=lambda fit: fit.bic)
    table = standard_errors(plain).table.drop(columns=["z", "plain_lower", "plain_upper"])
    print(table.round(3).to_string())
    print(pd.concat([derived(plain, name).table for name in ("mean_stay", "stationary_law")]).round(2).to_string())
    year = LogitTransitions(Design(seasons=(Season("year"),)))
    fits = {f"{plain.model.states} regimes without the date": plain}
    for k in (2,) if quick else (2, 3):
        fits[f"{k} regimes that know the date"] = em(HMM(k, RAIN, transition=year), rain, **options)
    picture, grid = plots.figure(18, 4.8 * len(fits), len(fits), 4, width_ratios=[1, 1.1, 1, 1.7])
    for row, (name, fit) in zip(grid, fits.items(), strict=True):
        diagnose(row, name, fit, rain, 20 if quick else 400)
    picture.savefig("rainfall_diagnosed.png")


if __name__ == "__main__":
    main()
