"""Gibbs sampling: the hidden paths by forward filtering and backward sampling, the parameters by full conditionals.

One iteration draws a path of every sequence given the parameters (Chib 1996), then the parameters given the paths:
Dirichlet rows of moves and of the first state, and the emission's own conditionals, exact draws where the prior is
conjugate and univariate slice sampling (Neal 2003) where one of a pair is not. It targets the posterior of the model's
Pyro program with its priors, as `nuts` does, and runs compiled from end to end, chains side by side.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import numpy as np
import torch

from probseq.errors import FitError, ModelError
from probseq.inference.fit import Fit
from probseq.inference.progress import Progress
from probseq.inference.sampling import Sampling, sampled_fit
from probseq.models.hmm import HMM
from probseq.sequences import Sequences

if TYPE_CHECKING:
    from probseq.inference.gibbs_plan import Plan

Stretch = tuple[np.ndarray, np.ndarray]
"""States (n, V) of one chain, and the evidence (n,) of each."""

STRETCH = 2_000_000
"""Steps times states that a chain walks before it looks whether it was interrupted: some hundredths of a second."""


def gibbs(
    model: HMM,
    series: Sequences,
    *,
    chains: int = 4,
    draws: int = 1000,
    tune: int = 500,
    thin: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> Fit:
    """Sample the posterior of the parameters of a hidden Markov model with conjugate priors.

    The states of each chain keep the labels that it began with, or change them; relabel the draws before reading
    anything off a single state.

    Args:
        model: an `HMM` whose family, moves and first state have full conditionals; anything else is refused by a
            `ModelError`, and sampled by `nuts`.
        series: the data; missing steps and labels are honoured.
        chains: how many, run side by side; the first starts where `em` does, the others at random starts.
        draws: of each chain, that are kept.
        tune: iterations before, kept apart as warm-up.
        thin: iterations from one draw to the next.
        seed: of starts and chains; the draws do not depend on the number of processors.
        progress: show a progress bar on standard error.

    Returns:
        A `Fit` with draws. `sampling.statistics["lp"]` is the log joint density of data and parameters, in nats.

    Raises:
        ModelError: something about the model or the data has no full conditional here.
        FitError: an option is out of range, or the series is impossible at the start.
    """
    _check(model, chains, draws, tune, thin)
    from probseq.inference.gibbs_plan import plan

    began = time.perf_counter()
    bound = model.bind(series, with_priors=True)
    laid = plan(bound, series)
    starts = [laid.pack(bound.ordered(bound.start(series, number, seed), series)) for number in range(chains)]
    generators = [np.random.Generator(np.random.SFC64(one)) for one in np.random.SeedSequence(seed).spawn(chains)]
    stop = threading.Event()

    def chain(number: int, report: Callable[[int, float], None]) -> Stretch:
        walk = _Walk(laid, starts[number], generators[number], stop, report)
        if tune == 0:  # the start itself is no draw
            walk(1, 1)
        first, second = walk(tune, 1), walk(draws, thin)
        return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])

    found = _side_by_side(chain, chains, progress, stop)
    return _fit(bound, series, laid, found, tune, draws, began)


def _check(model: HMM, chains: int, draws: int, tune: int, thin: int) -> None:
    """Refuse options out of range, and what is no HMM."""
    if chains < 1 or draws < 1 or tune < 0 or thin < 1:
        raise FitError(
            f"chains, draws and thin must be at least 1 and tune at least 0, got {chains}, {draws}, {thin} and {tune}."
        )
    if not isinstance(model, HMM):
        raise ModelError(
            f"Gibbs sampling must know the full conditionals of an HMM, got {type(model).__name__}; use nuts."
        )


def _fit(model: HMM, series: Sequences, laid: Plan, found: list[Stretch], tune: int, draws: int, began: float) -> Fit:
    """The states of all chains as a `Fit`; of interrupted ones as many as all have."""
    kept = min(len(values) for values, _ in found)
    if kept <= tune:
        raise KeyboardInterrupt
    sites = laid.unpack(np.stack([values[:kept] for values, _ in found]))
    evidence = torch.from_numpy(np.stack([one[:kept] for _, one in found]))
    flat = {name: value.flatten(0, 1) for name, value in sites.items()}
    joint = evidence + model.log_prior(flat, series).reshape(evidence.shape)
    sampling = Sampling(
        len(found),
        {"lp": joint[:, tune:].contiguous()},
        {name: value[:, :tune].contiguous() for name, value in sites.items()},
        {"lp": joint[:, :tune].contiguous()},
    )
    drawn = {name: value[:, tune:].flatten(0, 1).contiguous() for name, value in sites.items()}
    seconds = time.perf_counter() - began
    return sampled_fit(model, series, "gibbs", drawn, sampling, seconds, interrupted=kept < tune + draws)


class _Walk:
    """One chain, a stretch at a time."""

    def __init__(
        self,
        laid: Plan,
        values: np.ndarray,
        generator: np.random.Generator,
        stop: threading.Event,
        report: Callable[[int, float], None],
    ) -> None:
        self.laid, self.values, self.generator, self.stop, self.report = laid, values, generator, stop, report
        steps, states = len(laid.data[1]), len(laid.chain[1])
        self.at_once = max(1, STRETCH // max(1, steps * states))
        self.done = 0

    def __call__(self, count: int, thin: int) -> Stretch:
        """The next `count` states (count, V) and their evidence; fewer where it was stopped."""
        from probseq.kernels.gibbs import gibbs_steps

        laid = self.laid
        kept, evidence = np.empty((count, len(self.values))), np.empty(count)
        size = max(1, self.at_once // thin)
        for first in range(0, count, size):
            if self.stop.is_set():
                return kept[:first], evidence[:first]
            part = slice(first, min(first + size, count))
            found = gibbs_steps(
                self.generator,
                self.values,
                laid.free,
                laid.chain,
                laid.emission,
                laid.data,
                thin,
                kept[part],
                evidence[part],
            )
            if found < part.stop - part.start:
                raise FitError(
                    f"Gibbs sampling must stay where the series is possible, got no finite log-likelihood in iteration "
                    f"{self.done + found * thin}; look for observations or labels that no state allows."
                )
            self.done += found * thin
            self.report(self.done, float(evidence[part.stop - 1]))
        return kept, evidence


def _side_by_side(chain: Callable[..., Stretch], chains: int, progress: bool, stop: threading.Event) -> list[Stretch]:
    """Every chain's states, run by as many threads as there are processors; an interrupt stops them all."""
    with Progress("Gibbs", chains, progress) as bar, ThreadPoolExecutor(min(chains, os.cpu_count() or 1)) as pool:

        def run(number: int) -> Stretch:
            found = chain(number, bar.report)
            bar.finish_attempt()
            return found

        running: list[Future[Stretch]] = []
        try:
            for number in range(chains):
                running.append(pool.submit(run, number))
            while wait(
                running, timeout=0.1, return_when=FIRST_EXCEPTION
            ).not_done:  # a wait without end hears no signal
                if any(one.done() and one.exception() for one in running):
                    break
            return [one.result() for one in running]
        except KeyboardInterrupt:
            stop.set()
            if len(running) < chains:
                raise
            return [one.result() for one in running]
        except BaseException:
            stop.set()
            raise
