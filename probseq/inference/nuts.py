"""NUTS: Hamiltonian Monte Carlo on the parameters, states summed out exactly (Hoffman & Gelman 2014).

nutpie's sampler runs over the recorded potential (`potential`); `pyro_nuts` is the plain path over the program itself.
"""

from __future__ import annotations

import functools
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from probseq.errors import FitError
from probseq.inference.fit import Fit
from probseq.inference.potential import Potential
from probseq.inference.progress import Progress
from probseq.inference.sampling import Sampling, sampled_fit
from probseq.inference.starting_points import highest_point, potential_of, scattered
from probseq.models.hmm import HMM
from probseq.models.program import as_model
from probseq.sequences import Sequences

PATIENCE = 60.0
"""Seconds of sampling from which chains run in processes of their own, two at a time."""

STATISTICS = {
    "energy": "energy",
    "energy_error": "energy_error",
    "diverging": "diverging",
    "step_size": "step_size",
    "tree_depth": "depth",
    "reached_max_treedepth": "maxdepth_reached",
    "n_steps": "n_steps",
    "acceptance_rate": "mean_tree_accept",
}
"""Names of ArviZ, and of nutpie."""


@dataclass(frozen=True, eq=False)
class Chain:
    """What one chain left behind, warm-up first.

    Args:
        points: (tune + draws, P) unconstrained coordinates.
        statistics: name -> (tune + draws,).
        interrupted: whether it is shorter than was asked for because the user stopped it.
    """

    points: np.ndarray
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    interrupted: bool = False


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
        chains: how many, each from the same mode, a little moved.
        draws: of each chain, after the warm-up.
        tune: draws of the warm-up, in which step size and mass matrix are found.
        seed: of starts and chains.
        target_accept: mean acceptance that the step size is tuned for, in (0, 1); nearer 1 takes smaller steps.
        max_treedepth: at most 2^max_treedepth steps a draw.
        workers: processes for the chains; None starts two where they pay, 1 none. The draws are the same.
        progress: show a progress bar on standard error.

    Returns:
        A `Fit` with draws of all chains; `fit.sampling` has the statistics and the warm-up. An interrupt returns the
        chains that are done, or the one that runs.

    Raises:
        FitError: an option is out of range, or no start has positive density.
    """
    check_options(chains, draws, tune, target_accept)
    began = time.perf_counter()
    bound = as_model(model).bind(series, with_priors=True)
    potential = potential_of(bound, series, seed)
    centre = highest_point(potential, seed)
    run = functools.partial(_run, draws=draws, tune=tune, target_accept=target_accept, max_treedepth=max_treedepth)
    done: list[Chain] = []
    with Progress("NUTS", chains, progress) as bar:
        try:
            if workers is None:
                expected = _seconds(potential, centre) * chains * (tune + draws) * 8
                pays = expected > PATIENCE and isinstance(bound, HMM) and (os.cpu_count() or 1) > 1
                workers = 2 if pays else 1
            every = _in_processes if min(workers, chains) > 1 else _in_turn
            for chain in every(run, potential, centre, chains, seed, workers, bar):
                done.append(chain)
                bar.finish_attempt()
                if chain.interrupted:
                    break
        except KeyboardInterrupt:
            if not done:
                raise
    kept, interrupted = _whole(done, tune, draws, chains)
    return _fit(potential, kept, tune, time.perf_counter() - began, interrupted)


def check_options(chains: int, draws: int, tune: int, target_accept: float) -> None:
    """Refuse what no sampler could do."""
    if min(chains, draws, tune) < 1:
        raise FitError(f"chains, draws and tune must be at least 1, got {chains}, {draws} and {tune}.")
    if not 0.0 < target_accept < 1.0:
        raise FitError(f"target_accept must lie between 0 and 1, got {target_accept}.")


def _seconds(potential: Potential, point: np.ndarray) -> float:
    """Of one gradient."""
    began = time.perf_counter()
    for _ in range(10):
        potential(point)
    return (time.perf_counter() - began) / 10


def _run(
    potential: Potential,
    start: np.ndarray,
    chain: int,
    seed: int,
    report: Callable[[int, float], None],
    *,
    draws: int,
    tune: int,
    target_accept: float,
    max_treedepth: int,
) -> Chain:
    """One chain by nutpie; shorter than asked for where it was interrupted."""
    with warnings.catch_warnings():
        # nutpie brings arviz 0.23 along, which announces its own successor when it is imported.
        warnings.filterwarnings("ignore", message=".*ArviZ is undergoing a major refactor.*", category=FutureWarning)
        import nutpie

    points: list[np.ndarray] = []
    failures: list[Exception] = []
    sampler: Any = nutpie.sample(  # pyright: ignore[reportCallIssue]
        _as_nutpie_model(potential, start, points, failures, report),
        draws=draws,
        tune=tune,
        chains=1,
        cores=1,
        seed=int(np.random.default_rng([seed, 41, chain]).integers(2**31)),
        progress_bar=False,
        return_raw_trace=True,
        target_accept=target_accept,
        maxdepth=max_treedepth,
        blocking=False,
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
    statistics = {"logp": "logp", **STATISTICS}
    columns = {name: np.asarray(found.column(theirs).to_numpy())[:size] for name, theirs in statistics.items()}
    return Chain(np.array(points[:size]).reshape(size, len(start)), columns, interrupted)


def _as_nutpie_model(
    potential: Potential,
    start: np.ndarray,
    points: list[np.ndarray],
    failures: list[Exception],
    report: Callable[[int, float], None],
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


def _in_turn(
    run: Callable[..., Chain],
    potential: Potential,
    centre: np.ndarray,
    chains: int,
    seed: int,
    workers: int,
    bar: Progress,
) -> Iterator[Chain]:
    """The chains one after the other in this process."""
    for chain in range(chains):
        yield run(potential, scattered(potential, centre, chain, seed), chain, seed, bar.report)


def _in_processes(
    run: Callable[..., Chain],
    potential: Potential,
    centre: np.ndarray,
    chains: int,
    seed: int,
    workers: int,
    bar: Progress,
) -> Iterator[Chain]:
    """The chains in worker processes, each of which records the potential for itself."""
    from joblib import Parallel, delayed

    given = potential.model, potential.series, potential.around, centre
    jobs = (delayed(_run_apart)(run, given, chain, seed) for chain in range(chains))
    yield from Parallel(n_jobs=min(workers, chains), return_as="generator")(jobs)  # type: ignore[misc]


def _run_apart(run: Callable[..., Chain], given: tuple, chain: int, seed: int) -> Chain:
    """One chain in a process of its own."""
    model, series, around, centre = given
    torch.set_num_threads(1)
    potential = Potential(model, series, around)
    return run(potential, scattered(potential, centre, chain, seed), chain, seed, lambda iteration, value: None)


def _whole(done: list[Chain], tune: int, draws: int, chains: int) -> tuple[list[Chain], bool]:
    """The chains to keep, all of one length, and whether some are missing."""
    full = [chain for chain in done if len(chain.points) == tune + draws]
    if full:
        return full, len(full) < chains
    seen = len(done[0].points) if done else 0
    if seen <= tune:
        raise FitError(
            f"A sampler must finish its warm-up to have draws, got interrupted after {seen} of {tune}; let it run, or "
            "lower tune."
        )
    return done[:1], True


def _fit(potential: Potential, chains: list[Chain], tune: int, seconds: float, interrupted: bool) -> Fit:
    """The chains as a `Fit`."""
    points = torch.from_numpy(np.stack([chain.points for chain in chains]))
    potential.confirm(points[:, -1])
    statistics = {name: torch.from_numpy(np.stack([c.statistics[name] for c in chains])) for name in STATISTICS}
    unconstrained = torch.from_numpy(np.stack([chain.statistics["logp"] for chain in chains]))
    statistics = {"lp": unconstrained - potential.coordinates.log_jacobian(points), **statistics}
    statistics = {
        name: value if value.is_floating_point() else value.bool() if name in ("diverging", "reached_max_treedepth")
        else value.long()
        for name, value in statistics.items()
    }  # fmt: skip
    warmup = potential.parameters(points[:, :tune].flatten(0, 1))
    sampling = Sampling(
        chains=len(chains),
        statistics={name: value[:, tune:] for name, value in statistics.items()},
        warmup={name: value.reshape(len(chains), -1, *value.shape[1:]) for name, value in warmup.items()},
        warmup_statistics={name: value[:, :tune] for name, value in statistics.items()},
    )
    draws = potential.parameters(points[:, tune:].flatten(0, 1))
    return sampled_fit(potential.model, potential.series, "nuts", draws, sampling, seconds, interrupted)
