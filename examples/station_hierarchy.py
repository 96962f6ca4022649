"""Do the rain regimes of one year differ from those of another, at Seattle and New York, by more than chance?

A model that no package has, as a Pyro program: two regimes, each station's around the usual ones, and the moves of each
of eight station-years around those of its station (partial pooling). `spread` is the standard deviation of the years
around their station, on the log odds of staying in a regime. Its prior says 0 to 1; what do the data say?

Found: four years hardly differ, 0.09 (90% from 0.01 to 0.25), while New York's wetter regime is left after two days and
Seattle's after six. The most probable point alone would have said 0.8: that is why this needs draws. Each chain climbs
to its start by itself, two of the four call the drier regime 0: R-hat is 1.74 until they are relabelled, then 1.007.
"""

import os
import warnings

import arviz_plots as azp
import arviz_stats as azs
import numpy as np
import pyro
import pyro.distributions as dist
import torch
import xarray as xr
from torch import Tensor

from probseq import MarkovChain, Sequences, datasets, diagnostics, families, join_chains, nuts

K = 2  # regimes
RAIN = families.Hurdle(families.Gamma())
STATIONS = ("Seattle", "New York")
SITES = ("initial", "usual_stay", "usual_wet", "usual_mean", "shape", "offset", "stay", "wet", "mean")
REGIMES = {site: (int(site in SITES[5:]),) for site in SITES}  # which axis of each site are the regimes


def station_years(years: tuple[int, ...]) -> Sequences:
    """A sequence for each station and year, of its days."""
    frame = datasets.frame("rainfall")
    frame = frame[frame["date"].dt.year.isin(years)]
    frame = frame.assign(station_year=frame["location"] + " " + frame["date"].dt.year.astype(str))
    return Sequences.from_frame(frame, "precipitation", time="date", group="station_year")


def moves(stay: Tensor) -> Tensor:
    """(..., 2, 2) matrices from the chances of staying (..., 2)."""
    first, second = stay.unbind(-1)
    return torch.stack([torch.stack([first, 1 - first], -1), torch.stack([1 - second, second], -1)], -2)


def program(series: Sequences) -> None:
    """Rain (mm) of every station-year; nothing in it says which regime is which."""
    station = torch.tensor([STATIONS.index(name.rsplit(" ", 1)[0]) for name in series.ids])
    sequence = series.step_sequence
    initial = pyro.sample("initial", dist.Dirichlet(torch.ones(K)))
    usual_stay = pyro.sample("usual_stay", dist.Normal(1.0, 1.0).expand([K]).to_event(1))  # log odds of staying
    usual_wet = pyro.sample("usual_wet", dist.Normal(0.0, 1.5).expand([K]).to_event(1))  # log odds of rain in a day
    usual_mean = pyro.sample("usual_mean", dist.Normal(1.5, 1.0).expand([K]).to_event(1))  # log mm on a wet day
    shape = pyro.sample("shape", dist.Gamma(4.0, 4.0).expand([K]).to_event(1))
    stay = pyro.sample("stay", dist.Normal(usual_stay, 0.5).expand([2, K]).to_event(2))  # the same of each station
    wet = pyro.sample("wet", dist.Normal(usual_wet, 0.5).expand([2, K]).to_event(2))
    mean = pyro.sample("mean", dist.LogNormal(usual_mean, 0.5).expand([2, K]).to_event(2))
    spread = pyro.sample("spread", dist.HalfNormal(0.5))
    offset = pyro.sample("offset", dist.Normal(0.0, 1.0).expand([series.count, K]).to_event(2))  # of each year
    transition = moves(torch.sigmoid(stay[station] + spread * offset))
    state = pyro.sample("state", MarkovChain(initial, transition, series.lengths, transition_index=sequence))
    here = (station[sequence], state)
    with pyro.plate("day", series.total_steps):
        chance, rate = torch.sigmoid(wet[here]), shape[state] / mean[here]
        law = RAIN.distribution(nonzero=chance, concentration=shape[state], rate=rate)
        pyro.sample("rain", law, obs=series.values)


def visits(draws: dict[str, Tensor], rain: Sequences) -> np.ndarray:
    """(S, station-years, K) days that a visit lasts on average."""
    station = torch.tensor([STATIONS.index(name.rsplit(" ", 1)[0]) for name in rain.ids])
    log_odds = draws["stay"][:, station] + draws["spread"].reshape(-1, 1, 1) * draws["offset"]
    return (1.0 + log_odds.exp()).numpy()


def main() -> None:
    quick = "PROBSEQ_QUICK" in os.environ  # the test suite asks for fewer years and draws
    rain = station_years((2015,) if quick else (2012, 2013, 2014, 2015))
    print(rain)
    size = {"tune": 20, "draws": 20} if quick else {"tune": 600, "draws": 500}
    if quick:
        warnings.simplefilter("ignore", UserWarning)  # so few draws cannot agree
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # all chains are judged together, below
        chains = [nuts(program, rain, chains=1, seed=seed, **size) for seed in range(2 if quick else 4)]
    for seed, one in enumerate(chains):
        print(f"chain {seed}: regime 0 has rain on {one.draws['usual_wet'][:, 0].sigmoid().mean():.0%} of days")
    found = diagnostics.relabel_by(join_chains(chains), "usual_wet", rain, states=REGIMES)
    fit, rhat = found.fit, found.convergence[["rhat_before", "rhat_after"]].max()
    print(f"largest R-hat {rhat.iloc[0]:.2f}, with regimes by the same names {rhat.iloc[1]:.3f}; {fit.stop_reason}")

    middle = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    low, median, high = fit.draws["spread"].double().quantile(middle).tolist()
    print(f"spread of the years: {median:.2f} ({low:.2f} to {high:.2f}; under the prior 0.03 to 0.98)")
    for k, name in enumerate(("drier", "wetter")):
        apart = (fit.draws["stay"][:, 1, k] - fit.draws["stay"][:, 0, k]).double().quantile(middle).tolist()
        print(
            f"{name} regime, New York less Seattle: {apart[1]:.2f} ({apart[0]:.2f} to {apart[2]:.2f}) on the log odds"
        )
        chance, amount = fit.draws["wet"][..., k].sigmoid().mean(0), fit.draws["mean"][..., k].mean(0)
        for number, station in enumerate(STATIONS):
            print(f"  {station}: {chance[number]:.0%} of days wet, with {amount[number]:.1f} mm")

    decoded = fit.decode(rain)
    wetter = decoded.groupby("station_year")["state"].mean()
    print(f"share of days in the wetter regime\n{wetter.round(2).to_string()}")

    tree = fit.to_arviz(rain, prior_draws=10 if quick else 200, predictive_draws=10 if quick else 200)
    days = visits(fit.draws, rain).reshape(len(chains), size["draws"], rain.count, K)
    named = {"station_year": list(rain.ids), "regime": ["drier", "wetter"]}
    posterior = xr.Dataset({"days of a visit": (("chain", "draw", *named), days)}, named)
    print(azs.summary(posterior, kind="stats").to_string())
    picture = azp.plot_forest(xr.DataTree.from_dict({"posterior": posterior}), combined=True)
    picture.savefig("station_hierarchy.png")
    print(f"groups of the tree: {', '.join(tree.children)}")


if __name__ == "__main__":
    main()
