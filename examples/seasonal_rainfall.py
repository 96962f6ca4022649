"""Does daily rainfall have a year in it, and does a hidden Markov model that knows the date rain like the city?

Two regimes, hurdle-gamma rain. The seasonal model's moves follow a yearly cosine and sine: 366 transition matrices from
6 numbers. BIC compares it with one matrix for the whole year. Then 1,000 simulated series, with the same dates, are
held against the observed one. Two bands, both of 90%: an observed statistic should lie between the 5% and 95% quantiles
of the simulated ones; and the median simulation should lie between those of the observed series resampled, each
30 days of the calendar from a year drawn at random. Of many such checks one in ten fails for a perfect model.
"""

import os

import numpy as np
import pandas as pd

from probseq import HMM, Design, Fit, Season, Sequences, datasets, em, families
from probseq.chains import LogitTransitions
from probseq.diagnostics import replicates
from probseq.plots import figure, month_sums, spell_durations, spell_lengths
from probseq.plots.style import MUTED, OBSERVED, dress, legend
from probseq.plots.totals import MONTHS

SEASONS = {"Dec-Feb": (12, 1, 2), "Mar-May": (3, 4, 5), "Jun-Aug": (6, 7, 8), "Sep-Nov": (9, 10, 11)}
COLOURS = {"one matrix": "#E69F00", "seasonal": "#0072B2"}


def fits(rain: Sequences, states: int = 2) -> dict[str, Fit]:
    """The homogeneous and the seasonal model, maximum a posteriori."""
    rainfall, year = families.Hurdle(families.Gamma()), Design(seasons=(Season("year"),))
    seasonal = HMM(states, rainfall, transition=LogitTransitions(year))
    models = {"one matrix": HMM(states, rainfall), "seasonal": seasonal}
    return {name: em(model, rain, priors=True, restarts=3, seed=1) for name, model in models.items()}


def simulate(fit: Fit, rain: Sequences, runs: int, seed: int = 1) -> np.ndarray:
    """(runs, T) series with the dates of the observed one."""
    return replicates(fit, rain, count=runs, seed=seed)


def resample(
    time: pd.DatetimeIndex, values: np.ndarray, runs: int, seed: int = 2
) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """(runs, years * 365) the observed days, each 30 days of the calendar from a year drawn at random."""
    rng, plain = np.random.default_rng(seed), ~((time.month == 2) & (time.day == 29))
    years = values[plain].reshape(-1, 365)
    block = np.arange(365) // 30
    chosen = rng.integers(len(years), size=(runs, len(years), block.max() + 1))[:, :, block]
    return time[plain], years[chosen, np.arange(365)].reshape(runs, -1)


def statistics(time: pd.DatetimeIndex, values: np.ndarray) -> pd.DataFrame:
    """A row a series (runs, T): mean monthly totals, shares of wet days, and lengths of complete spells."""
    totals, wet = month_sums(time, values.T).groupby(level="month").mean(), values > 0
    found = {f"total {name}, mm": totals.loc[place].to_numpy() for place, name in enumerate(MONTHS, start=1)}
    found["wet days"] = wet.mean(1)
    found |= {f"wet days {name}": wet[:, time.month.isin(months)].mean(1) for name, months in SEASONS.items()}
    for name, happening in (("wet", wet), ("dry", ~wet)):
        spells = [spell_durations(run, [len(run)]) for run in happening]
        found[f"{name} spells, mean"] = np.array([spell.mean() for spell in spells])
        for q in (0.5, 0.75, 0.9, 0.95, 0.99):
            found[f"{name} spells, {q:.0%}"] = np.array([np.quantile(spell, q) for spell in spells])
    return pd.DataFrame(found)


def compare(rain: Sequences, simulated: np.ndarray) -> pd.DataFrame:
    """Every statistic with both bands, and whether each holds."""
    time, values = pd.DatetimeIndex(rain.time), rain.values.numpy()
    seen, model = statistics(time, values[None]).iloc[0], statistics(time, simulated).quantile([0.05, 0.5, 0.95])
    data = statistics(*resample(time, values, len(simulated))).quantile([0.05, 0.95])
    table = pd.DataFrame({"observed": seen, "sim 5%": model.loc[0.05], "sim 50%": model.loc[0.5]})
    table = table.assign(**{"sim 95%": model.loc[0.95], "obs 5%": data.loc[0.05], "obs 95%": data.loc[0.95]})
    table["observed in sim"] = seen.between(model.loc[0.05], model.loc[0.95])
    table["sim in observed"] = model.loc[0.5].between(data.loc[0.05], data.loc[0.95])
    return table


def draw(row, city: str, bics: str, rain: Sequences, tables: dict[str, pd.DataFrame], simulated: np.ndarray) -> None:
    """Monthly totals, wet days by season, and dry spells: dots for the city, bands for the models."""
    for axes, key, names in ((row[0], "total {}, mm", MONTHS), (row[1], "wet days {}", tuple(SEASONS))):
        for place, (model, table) in enumerate(tables.items()):
            part, x = table.loc[[key.format(name) for name in names]], np.arange(len(names)) + 0.4 * place - 0.2
            height, bottom = part["sim 95%"] - part["sim 5%"], part["sim 5%"]
            axes.bar(x, height, 0.36, bottom, color=COLOURS[model], alpha=0.35, label=f"{model}, 90% of simulations")
            axes.hlines(part["sim 50%"], x - 0.18, x + 0.18, color=COLOURS[model], linewidth=1.5)
        axes.plot(part["observed"].to_numpy(), "D", color=OBSERVED, markersize=4.5, label="observed")
        axes.set_xticks(range(len(names)), [name[:1] if len(names) == 12 else name for name in names], color=MUTED)
        axes.set_ylim(0, 1.3 * max(table["sim 95%"].loc[part.index].max() for table in tables.values()))
    dress(row[0], y="mm a month", title=f"{city}, monthly totals. BIC: {bics}")
    dress(row[1], y="share of days", title="Wet days by season")
    legend(row[0], loc="upper center")
    dry = rain.values.numpy() == 0
    runs = [spell_durations(run == 0, [len(run)]) for run in simulated]
    spell_lengths(row[2], spell_durations(dry, [len(dry)]), runs, what="dry spells, seasonal model")


def main() -> None:
    runs = 100 if "PROBSEQ_QUICK" in os.environ else 1000
    picture, grid = figure(14, 7.6, 2, 3, width_ratios=[1.5, 1, 1.2])
    for row, city in zip(grid, ("Seattle", "New York"), strict=True):
        rain, tables, simulated = datasets.rainfall(city), {}, np.empty(0)
        found = fits(rain)
        for name, fit in found.items():
            simulated = simulate(fit, rain, runs)
            tables[name] = compare(rain, simulated)
            print(f"{city}, {name}: log-likelihood {fit.log_likelihood:.1f}, BIC {fit.bic:.1f}, ", end="")
            print(
                tables[name].iloc[:, -2:].sum().to_string(header=False).replace("\n", ", "), f"of {len(tables[name])}"
            )
        print(tables["seasonal"].round(2).to_string(), "\n")
        bics = ", ".join(f"{name} {fit.bic:.0f}" for name, fit in found.items())
        draw(row, city, bics, rain, tables, simulated)
    picture.savefig("seasonal_rainfall.png")


if __name__ == "__main__":
    main()
