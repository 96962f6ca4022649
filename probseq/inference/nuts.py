"""NUTS: Hamiltonian Monte Carlo on the parameters, states summed out exactly (Hoffman & Gelman 2014).

nutpie's sampler runs over the recorded potential (`potential`); `pyro_nuts` is the plain path over the program itself.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from probseq.errors import FitError
from probseq.inference.fit import Fit
from probseq.inference.potential import Potential
from probseq.inference.progress import Progress
from probseq.inference.sampled_chains import Chain, Report, sampled_chains
from probseq.inference.sampling import Sampling, sampled_fit
from probseq.inference.starting_points import highest_point, potential_of, scattered
from probseq.models.hmm import HMM
from probseq.models.program import as_model
from probseq.sequences import Sequences

STATISTICS = {
    "logp": "logp",
    "energy": "energy",
    "energy_error": "energy_error",
    "diverging": "diverging",
    "step_size": "step_size",
    "tree_depth": "depth",
    "reached_max_treedepth": "maxdepth_reached",
    "n_steps": "n_steps",
    "acceptance_rate": "mean_tree_accept",
}
"""Names of ArviZ, and of nutpie; `logp` is the density of the coordinates."""


KINDS = {"diverging": torch.bool, "reached_max_treedepth": torch.bool, "tree_depth": torch.long, "n_steps": torch.long}
"""Of statistics that are no measurements."""


def nuts(
    model: HMM | Callable[..., Any],
    series: Sequences,
    *,
    chains: int = 4,
    draws: int = 1000,
    tune: int = 1000,
    seed: int = 0,
    target_accept: float = 0.8,
    max_treedepth: int = 10,
    workers: int | None = None,
    progress: bool = False,
) -> Fit:
    """Sample the posterior of the parameters by NUTS, with the states summed out exactly.

    Args:
        model: an `HMM`, or any Pyro program of one argument, the series, with a `MarkovChain` site.
        series: the data.
        chains: how many, each from a point of its own around the highest mode found, as far out as the posterior.
        draws: of each chain, after the warm-up.
        tune: draws of the warm-up, in which step size and mass matrix are found.
        seed: of starts and chains.
        target_accept: mean acceptance that the step size is tuned for, in (0, 1); nearer 1 takes smaller steps.
        max_treedepth: at most 2^max_treedepth steps a draw.
        workers: chains at a time, each in a forked process of its own; None: as many as torch is allowed threads. The
            draws are the same, but for rounding where a series is so long that a gradient takes several threads. Where
            processes are not forked (all but Linux) the chains run in turn.
        progress: show a progress bar on standard error.

    Returns:
        A `Fit` with draws of all chains; `fit.sampling` has the statistics and the warm-up. An interrupt returns the
        chains that are done, or if there are none those that run.

    Raises:
        FitError: an option is out of range, or no start has positive density.
    """
    check_options(chains, draws, tune, target_accept)
    began = time.perf_counter()
    bound = as_model(model).bind(series, with_priors=True)
    potential = potential_of(bound, series, seed)
    centre = highest_point(potential, seed)

    options = {"draws": draws, "tune": tune, "target_accept": target_accept, "maxdepth": max_treedepth}
    _nutpie()  # imported once, before processes are forked

    def run(chain: int, report: Report) -> Chain:
        number = int(np.random.default_rng([seed, 41, chain]).integers(2**31))
        return _run(potential, scattered(potential, centre, chain, seed), report, seed=number, **options)

    with Progress("NUTS", chains, progress) as bar:
        done = sampled_chains(run, chains, workers, (tune + draws, len(centre)), list(STATISTICS), bar)
    kept, interrupted = _whole(done, tune, draws, chains)
    return _fit(potential, kept, tune, time.perf_counter() - began, interrupted)


def check_options(chains: int, draws: int, tune: int, target_accept: float) -> None:
    """Refuse what no sampler could do."""
    if min(chains, draws, tune) < 1:
        raise FitError(f"chains, draws and tune must be at least 1, got {chains}, {draws} and {tune}.")
    if not 0.0 < target_accept < 1.0:
        raise FitError(f"target_accept must lie between 0 and 1, got {target_accept}.")


def _nutpie() -> Any:
    with warnings.catch_warnings():
        # nutpie brings arviz 0.23 along, which announces its own successor when it is imported.
        warnings.filterwarnings("ignore", message=".*ArviZ is undergoing a major refactor.*", category=FutureWarning)
        import nutpie

    return nutpie


def _run(potential: Potential, start: np.ndarray, report: Report, **settings: Any) -> Chain:
    """One chain by nutpie, whose settings are given; shorter than asked for where it was interrupted."""
    points: list[np.ndarray] = []
    failures: list[Exception] = []
    sampler: Any = _nutpie().sample(
        _as_nutpie_model(potential, start, points, failures, report),
        chains=1,
        cores=1,
        low_rank_modified_mass_matrix=True,  # log-ratios of one row hang together where a chance is next to nothing
        progress_bar=False,
        return_raw_trace=True,
        blocking=False,
        **settings,
    )
    interrupted = False
    try:
        trace = sampler.wait()
    except KeyboardInterrupt:
        trace, interrupted = sampler.abort(), True
    if failures:
        raise FitError(f"The model could not be scored while it was sampled: {failures[0]}") from failures[0]
    (found,) = trace.get_arrow_trace()[1]
    size = min(len(points), found.num_rows)
    columns = {name: np.asarray(found.column(theirs).to_numpy())[:size] for name, theirs in STATISTICS.items()}
    return Chain(np.array(points[:size]).reshape(size, len(start)), columns, interrupted)


def _as_nutpie_model(
    potential: Potential,
    start: np.ndarray,
    points: list[np.ndarray],
    failures: list[Exception],
    report: Report,
) -> Any:
    """The potential as nutpie takes it; every draw is put into `points`."""
    from nutpie.compiled_pyfunc import from_pyfunc

    def log_density(point: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            return potential(point)
        except Exception as failure:  # the sampler's threads cannot raise; it is raised below
            failures.append(failure)
            return -np.inf, np.zeros(len(point))

    def keep(point: np.ndarray) -> dict[str, np.ndarray]:
        points.append(np.array(point))
        if len(points) % 50 == 0:
            report(len(points), potential(point)[0])
        return {"number": np.array(float(len(points)))}

    return from_pyfunc(
        len(start),
        lambda: log_density,
        lambda first, second, number: keep,
        [np.dtype("float64")],
        [()],
        ["number"],
        make_initial_point_fn=lambda number: start,
    )


def _whole(done: list[Chain], tune: int, draws: int, chains: int) -> tuple[list[Chain], bool]:
    """The chains to keep, all of one length, and whether some, or parts of them, are missing."""
    full = [chain for chain in done if len(chain.points) == tune + draws]
    if full:
        return full, len(full) < chains
    warm = [chain for chain in done if len(chain.points) > tune]
    if not warm:
        seen = max(len(chain.points) for chain in done)
        raise FitError(
            f"A sampler must finish its warm-up to have draws, got interrupted after {seen} of {tune}; let it run, or "
            "lower tune."
        )
    size = min(len(chain.points) for chain in warm)
    return [chain.first(size) for chain in warm], True


def _fit(potential: Potential, chains: list[Chain], tune: int, seconds: float, interrupted: bool) -> Fit:
    """The chains as a `Fit`."""
    points = torch.from_numpy(np.stack([chain.points for chain in chains]))
    potential.confirm(points[:, -1])
    statistics = {
        name: torch.from_numpy(np.stack([chain.statistics[name] for chain in chains])).to(KINDS.get(name, torch.double))
        for name in STATISTICS
    }
    unconstrained = statistics.pop("logp")
    statistics = {"lp": unconstrained - potential.coordinates.log_jacobian(points), **statistics}
    warmup = potential.parameters(points[:, :tune].flatten(0, 1))
    sampling = Sampling(
        chains=len(chains),
        statistics={name: value[:, tune:] for name, value in statistics.items()},
        warmup={name: value.reshape(len(chains), -1, *value.shape[1:]) for name, value in warmup.items()},
        warmup_statistics={name: value[:, :tune] for name, value in statistics.items()},
    )
    draws = potential.parameters(points[:, tune:].flatten(0, 1))
    return sampled_fit(potential.model, potential.series, "nuts", draws, sampling, seconds, interrupted)
