"""Pyro's own NUTS on the marginalised program: slow, plain, and independent of the recorded potential."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide.initialization import init_to_value
from torch import Tensor

from probseq.chains.marginalization import marginalize
from probseq.inference.fit import Fit
from probseq.inference.nuts import check_options
from probseq.inference.progress import Progress
from probseq.inference.sampling import Sampling, sampled_fit
from probseq.inference.starting_points import highest_point, potential_of, scattered
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel, as_model
from probseq.sequences import Sequences

Draw = dict[str, Tensor]


def pyro_nuts(
    model: HMM | Callable[..., Any],
    series: Sequences,
    *,
    chains: int = 4,
    draws: int = 1000,
    tune: int = 1000,
    seed: int = 0,
    target_accept: float = 0.8,
    max_treedepth: int = 10,
    progress: bool = False,
) -> Fit:
    """Sample the posterior of the parameters by Pyro's NUTS kernel, one chain after the other.

    The arguments and what comes back are those of `nuts`; its energies are not known. An interrupt returns the chains
    that are done.

    Raises:
        FitError: an option is out of range, or no start has positive density.
    """
    check_options(chains, draws, tune, target_accept)
    began = time.perf_counter()
    bound = as_model(model).bind(series, with_priors=True)
    potential = potential_of(bound, series, seed)
    centre = highest_point(potential, seed)
    done: list[tuple[list[Draw], dict[str, Tensor]]] = []
    with Progress("Pyro's NUTS", chains, progress) as bar:
        try:
            for chain in range(chains):
                at = torch.from_numpy(scattered(potential, centre, chain, seed))
                start = {name: value.detach() for name, value in potential.coordinates.unpack(at).items()}
                kernel = NUTS(
                    marginalize(bound.program),
                    target_accept_prob=target_accept,
                    max_tree_depth=max_treedepth,
                    init_strategy=init_to_value(values=start),
                )
                done.append(_run(kernel, bound, series, draws, tune, seed + 7919 * chain, bar.report))
                bar.finish_attempt()
        except KeyboardInterrupt:
            if not done:
                raise
    return _fit(bound, series, done, draws, tune, time.perf_counter() - began, len(done) < chains)


def _run(
    kernel: NUTS,
    model: HMM | ProgramModel,
    series: Sequences,
    draws: int,
    tune: int,
    seed: int,
    report: Callable[[int, float], None],
) -> tuple[list[Draw], dict[str, Tensor]]:
    """Every draw of one chain, warm-up first, and what the kernel says of each."""
    found: list[Draw] = []
    rows: list[tuple[float, ...]] = []

    def keep(kernel: Any, sample: Draw, stage: str, number: int) -> None:
        with torch.no_grad():
            values = {name: kernel.transforms[name].inv(value) if name in kernel.transforms else value
                      for name, value in sample.items()}  # fmt: skip
            found.append({name: value.detach().clone() for name, value in model.complete(values).items()})
            density = float(model.log_joint(found[-1], series, True))
        divergent = number in kernel._divergences if not stage.startswith("Warmup") else False
        rows.append((density, float(divergent), float(kernel.step_size)))
        if len(found) % 50 == 0:
            report(len(found), density)

    with torch.random.fork_rng(devices=[]), pyro.get_param_store().scope(), warnings.catch_warnings():
        # torch.jit, which Pyro's MCMC imports, announces its own end.
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
        pyro.set_rng_seed(seed % 2**32)
        MCMC(kernel, draws, tune, disable_progbar=True, hook_fn=keep).run(series)
    table = torch.tensor(rows, dtype=torch.float64)
    return found, {"lp": table[:, 0], "diverging": table[:, 1].bool(), "step_size": table[:, 2]}


def _fit(
    model: HMM | ProgramModel,
    series: Sequences,
    done: list[tuple[list[Draw], dict[str, Tensor]]],
    draws: int,
    tune: int,
    seconds: float,
    interrupted: bool,
) -> Fit:
    statistics = {name: torch.stack([chain[1][name] for chain in done]) for name in done[0][1]}
    values = {
        name: torch.stack([torch.stack([draw[name] for draw in chain]) for chain, _ in done]) for name in done[0][0][0]
    }
    sampling = Sampling(
        chains=len(done),
        statistics={name: value[:, tune:] for name, value in statistics.items()},
        warmup={name: value[:, :tune] for name, value in values.items()},
        warmup_statistics={name: value[:, :tune] for name, value in statistics.items()},
    )
    kept = {name: value[:, tune:].flatten(0, 1) for name, value in values.items()}
    return sampled_fit(model, series, "nuts", kept, sampling, seconds, interrupted)
