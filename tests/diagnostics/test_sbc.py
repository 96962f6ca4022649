"""Simulation-based calibration of the samplers: on four families, draws of `gibbs` and `nuts` are of the posterior.

Parameters from the prior, data with them, a fit, the rank of the truth: over simulations the ranks are uniform. A run
of one family and one sampler ranks up to eleven quantities, the parameters (states by ascending mean) and two that know
the data. Two things are asked of every run.

- The rank ECDFs of all its quantities stay inside bands that they leave together in at most 5% of the runs of a perfect
  sampler (Bonferroni). Of 95% bands for each quantity alone, one in twenty is left by chance: `inside` counts them.
- The central 90% intervals of each quantity cover 87% to 93%. Of 2,000 simulations 3 points are 4.5 standard errors: a
  perfect sampler fails in one of its 38 quantities with a chance of at most 0.03%. Of 1,000 they are 3.2, its chance
  is 6%; of 500 they would be 2.2, and one of the 38 would fail more often than not. NUTS takes 1,000, but 2,000 of
  categorical series: the log-likelihood of the first 1,100 of this seed is covered in 86.6% by Gibbs and NUTS alike.

The seed is fixed, so that chance has spoken once, and both samplers see the same series. Each run writes its figure and
its numbers into report/calibration/. All eight take about an hour of one core.
"""

from __future__ import annotations

import json
import os
import time
from functools import partial
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch

from probseq import HMM, Sequences, families, gibbs, nuts, plots
from probseq.chains import StickyTransitions
from probseq.diagnostics import Calibration, calibrate
from probseq.families.scale import InverseGamma

REPORT = Path(__file__).resolve().parents[2] / "report" / "calibration"
STEPS = (60, 30)
MISSING = (10, 11, 12, 70)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def model(emission: families.Family, **priors: object) -> HMM:
    """Two states that rather stay, with priors that do not look at any data."""
    return HMM(2, emission, transition=StickyTransitions(extra=3.0, prior=1.5), priors=priors)  # type: ignore[arg-type]


MODELS = {
    "gaussian": model(
        families.Gaussian(),
        loc=dist.Normal(number(0.0), number(3.0)),
        scale=InverseGamma(number(4.0), number(3.0)),
    ),
    "poisson": model(families.Poisson(), rate=dist.Gamma(number(2.0), number(0.3))),
    "hurdle-gamma": model(
        families.Hurdle(families.Gamma()),
        nonzero=dist.Beta(number(2.0), number(2.0)),
        concentration=dist.Gamma(number(3.0), number(1.5)),
        rate=dist.Gamma(number(3.0), number(6.0)),
    ),
    "categorical": model(families.Categorical(4), probabilities=dist.Dirichlet(torch.ones(4, dtype=torch.float64))),
}
SAMPLERS = {
    "gibbs": (partial(gibbs, chains=1, tune=500, draws=400, thin=10), 2000),
    "nuts": (partial(nuts, chains=1, tune=500, draws=400, workers=1), 1000),
}


def template() -> Sequences:
    """Two sequences of any values, four steps of which are missing."""
    values = torch.arange(sum(STEPS), dtype=torch.float64) % 3
    observed = torch.ones(len(values), dtype=torch.bool)
    observed[list(MISSING)] = False
    return Sequences(values, torch.tensor(STEPS), observed=observed)


def report(name: str, found: Calibration, seconds: float) -> None:
    """The figure and the numbers of one run."""
    REPORT.mkdir(parents=True, exist_ok=True)
    rows = -(-len(found.ranks.columns) // 4)
    figure, grid = plots.figure(13, 2.6 * rows, rows, 4)
    probability = 1 - 0.05 / len(found.ranks.columns)
    plots.rank_ecdfs(grid.ravel(), found, probability=probability)
    figure.suptitle(f"{name}: {found.stop_reason}, bands of 95% for all quantities together", x=0.01, ha="left")
    figure.savefig(REPORT / f"{name}.png")
    numbers = {
        "simulations": len(found.ranks),
        "failed": dict(found.failed),
        "unmixed": len(found.unmixed),
        "coverage": [float(found.table["coverage"].min()), float(found.table["coverage"].max())],
        "outside_of_single_bands": int((~found.table["inside"]).sum()),
        "seconds": round(seconds, 1),
        "quantities": json.loads(found.table.to_json(orient="index")),
    }
    (REPORT / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"\n{name}, {seconds:.0f} s: {found}\n-> {REPORT / name}.png")


@pytest.mark.slow
@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_ranks_are_uniform_and_intervals_cover(sampler: str, family: str) -> None:
    fit_function, simulations = SAMPLERS[sampler]
    simulations = 2000 if family == "categorical" else simulations
    simulations = int(os.environ.get("PROBSEQ_SIMULATIONS", simulations))
    began = time.perf_counter()
    found = calibrate(MODELS[family], template(), fit_function, seed=1, simulations=simulations)
    report(f"{sampler}-{family}", found, time.perf_counter() - began)
    assert len(found.ranks) == simulations, found.failed  # none was left out
    assert found.table["inside_all"].all(), str(found)
    assert found.table["coverage"].between(0.87, 0.93).all(), str(found)
