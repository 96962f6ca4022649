"""A model with one unknown number, whose posterior is a table: the oracle of cross-validation.

Two states of a Poisson series, all given but the higher rate. Its likelihood on a grid of rates comes from a forward
pass in numpy and scipy that shares nothing with the package, integrals over the prior are sums over the grid, and
"draws" are quantiles of the posterior, so that averages over them have next to no error of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy import stats

from probseq import HMM, Fit, MarkovChain, Sequences, families
from probseq.inference.fit import observed_steps
from probseq.models.program import ProgramModel

INITIAL, MOVES, LOW = np.array([0.6, 0.4]), np.array([[0.9, 0.1], [0.3, 0.7]]), 1.0
RATES = np.linspace(0.05, 60.0, 6000)
LOG_PRIOR = stats.gamma(2.0, scale=5.0).logpdf(RATES)
DRAWS, FEW = 2000, 200


def log_likelihood(sequences: list[list[float]]) -> np.ndarray:
    """(G,) log p(y | rate) at each rate of the grid; NaN is missing."""
    total = np.zeros(len(RATES))
    for values in sequences:
        alpha = None
        for y in values:
            law = INITIAL if alpha is None else alpha @ MOVES
            alpha = np.broadcast_to(law, (len(RATES), 2)).copy()
            if not np.isnan(y):
                alpha *= np.stack([np.full(len(RATES), stats.poisson.pmf(y, LOW)), stats.poisson.pmf(y, RATES)], 1)
            total += np.log(alpha.sum(1))
            alpha /= alpha.sum(1, keepdims=True)
    return total


def log_evidence(sequences: list[list[float]]) -> float:
    """log p(y), the rate integrated out; but for a constant of the grid."""
    return float(np.logaddexp.reduce(LOG_PRIOR + log_likelihood(sequences)))


def lists(series: Sequences) -> list[list[float]]:
    """The values of each sequence, NaN where missing."""
    values = torch.where(series.step_observed, series.values, torch.nan)
    return [part.tolist() for part in values.split(series.lengths.tolist())]


def quantiles(series: Sequences, draws: int) -> np.ndarray:
    """(S,) quantiles of the posterior of the rate."""
    log_density = LOG_PRIOR + log_likelihood(lists(series))
    chance = np.cumsum(np.exp(log_density - log_density.max()))
    return np.interp((np.arange(draws) + 0.5) / draws, chance / chance[-1], RATES)


def fit_hmm(series: Sequences, draws: int = DRAWS) -> Fit:
    """The posterior as draws of an HMM."""
    rate = torch.from_numpy(np.stack([np.full(draws, LOW), quantiles(series, draws)], 1))
    chain = {"initial": torch.from_numpy(INITIAL).expand(draws, 2), "transition": torch.from_numpy(MOVES)}
    chain["transition"] = chain["transition"].expand(draws, 2, 2)
    return _fit(HMM(2, families.Poisson()).bind(series, with_priors=True), chain | {"rate": rate}, series)


def program(series: Sequences) -> None:
    rate = pyro.sample("rate", dist.Gamma(2.0, 0.2))
    initial, moves = torch.from_numpy(INITIAL), torch.from_numpy(MOVES)
    state = pyro.sample("state", MarkovChain(initial, moves, series.lengths))
    with pyro.plate("step", series.total_steps), pyro.poutine.mask(mask=series.step_observed):  # pyright: ignore
        pyro.sample("y", dist.Poisson(torch.where(state == 0, LOW, rate)), obs=series.values)


def fit_program(series: Sequences) -> Fit:
    """The same, in fewer draws, of a user's own program."""
    draws = {"rate": torch.from_numpy(quantiles(series, FEW))}
    return _fit(ProgramModel(program).bind(series), draws, series)


def point(series: Sequences) -> Fit:
    """The posterior's median alone."""
    fit = fit_hmm(series)
    draws = {name: value[DRAWS // 2 : DRAWS // 2 + 1] for name, value in fit.draws.items()}
    return _fit(fit.model, draws, series)


def _fit(model, draws, series: Sequences) -> Fit:
    return Fit(
        model=model,
        parameters={name: value[len(value) // 2] for name, value in draws.items()},
        draws=draws,
        method="table",
        with_priors=True,
        log_likelihood=0.0,
        observations=observed_steps(model, series),
        n_parameters=1,
        objective=torch.zeros(1),
        converged=True,
        stop_reason="a table has no end",
        seconds=0.0,
        fingerprint=series.fingerprint(),
        series=series,
    )


def counting(fit_function: Callable[[Sequences], Fit]) -> tuple[Callable[[Sequences], Fit], list[Sequences]]:
    """The function, and what it was given."""
    seen: list[Sequences] = []

    def fit(series: Sequences) -> Fit:
        seen.append(series)
        return fit_function(series)

    return fit, seen
