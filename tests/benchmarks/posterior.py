"""Effective samples a second from the posterior of three hidden Markov models, beside NumPyro's NUTS.

    python -m tests.benchmarks.posterior [contender ...]

Every contender samples the same posterior: the model's default priors, states summed out (NumPyro by a scan in double
precision) or drawn (Gibbs), 4 chains of 500 + 1,000 draws on two processors. States are put in the order of their
means, draw by draw; the number is the smallest bulk effective sample size (Vehtari et al. 2021) among all parameters
and their log density, the same function for every contender, over seconds from the call to the draws. The first call
compiles (this package's recursions only if they were never called on this machine: they are kept on disk) and is told
apart; a second one in the same process does not. A package that is not installed is left out; each runs in a process
of its own. Without arguments all are measured, and posterior.json and posterior.md written beside this file.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probseq import HMM, Fit, Sequences, datasets, families, gibbs, nuts

HERE = Path(__file__).parent
CHAINS, TUNE, DRAWS, MANY = 4, 500, 1000, 50_000
DENSITY = "log density"

Sampler = Callable[[int], dict[str, np.ndarray]]
"""Of a seed: name -> (chains, draws, ...)."""


@dataclass(frozen=True)
class Problem:
    """A model and a series.

    Args:
        name: in words.
        model: bound, with its priors.
        series: one sequence, all of it measured.
        by: the parameter that orders the states.
    """

    name: str
    model: HMM
    series: Sequences
    by: str


def problems() -> list[Problem]:
    """Earthquakes with 2 and 3 states, and 2,000 steps of three Gaussian regimes two standard deviations apart."""
    rng, quakes = np.random.default_rng(0), datasets.earthquakes()
    state = np.cumsum(rng.random(2000) < 0.1) % 3
    regimes = Sequences.from_arrays(rng.normal(2.0 * state, 1.0))
    return [
        Problem("earthquakes, K = 2", HMM(2, families.Poisson()).bind(quakes, with_priors=True), quakes, "rate"),
        Problem("earthquakes, K = 3", HMM(3, families.Poisson()).bind(quakes, with_priors=True), quakes, "rate"),
        Problem(
            "Gaussian, K = 3, T = 2,000", HMM(3, families.Gaussian()).bind(regimes, with_priors=True), regimes, "loc"
        ),
    ]


def probseq_gibbs(problem: Problem, count: int = DRAWS) -> Sampler:
    """This package's Gibbs sampler."""

    def sample(seed: int) -> dict[str, np.ndarray]:
        fit = gibbs(problem.model, problem.series, chains=CHAINS, tune=TUNE, draws=count, seed=seed)
        return with_density(fit, count)

    return sample


def probseq_gibbs_for_longer(problem: Problem) -> Sampler:
    """The same for as long as others take."""
    return probseq_gibbs(problem, MANY)


def probseq_nuts(problem: Problem) -> Sampler:
    """This package's NUTS; the log density is recorded anew in every call."""

    def sample(seed: int) -> dict[str, np.ndarray]:
        fit = nuts(problem.model, problem.series, chains=CHAINS, tune=TUNE, draws=DRAWS, seed=seed)
        return with_density(fit, DRAWS)

    return sample


def with_density(fit: Fit, count: int) -> dict[str, np.ndarray]:
    """Draws of a fit (chains, draws, ...), and the log density that it keeps of each."""
    draws = {name: value.unflatten(0, (CHAINS, count)).numpy() for name, value in fit.draws.items()}
    return draws | {DENSITY: fit.sampling.statistics["lp"].numpy()}  # pyright: ignore


def numpyro_nuts(problem: Problem) -> Sampler:
    """NumPyro's NUTS on the same joint density: a scan over steps, double precision, chains in parallel."""
    os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={CHAINS}")
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from jax.scipy.special import logsumexp
    from numpyro.infer import MCMC, NUTS

    jax.config.update("jax_enable_x64", True)
    K, values = problem.model.states, jnp.asarray(problem.series.values.numpy())
    numbers = {
        name: {one: float(getattr(prior, one)) for one in prior.arg_constraints}
        for name, prior in problem.model.priors.items()
    }

    def program() -> None:
        initial = numpyro.sample("initial", dist.Dirichlet(jnp.full(K, 1.1)))
        transition = numpyro.sample("transition", dist.Dirichlet(jnp.full((K, K), 1.1)).to_event(1))
        if problem.by == "rate":
            rate = numpyro.sample("rate", dist.Gamma(**numbers["rate"]).expand([K]).to_event(1))
            table = dist.Poisson(rate).log_prob(values[:, None])
        else:
            loc = numpyro.sample("loc", dist.Normal(**numbers["loc"]).expand([K]).to_event(1))
            scale = numpyro.sample("scale", dist.InverseGamma(**numbers["scale"]).expand([K]).to_event(1))
            table = dist.Normal(loc, scale).log_prob(values[:, None])
        moves = jnp.log(transition)

        def step(alpha, row):
            return logsumexp(alpha[:, None] + moves, 0) + row, None

        alpha, _ = jax.lax.scan(step, jnp.log(initial) + table[0], table[1:])
        numpyro.factor("evidence", logsumexp(alpha))

    sampler = MCMC(NUTS(program), num_warmup=TUNE, num_samples=DRAWS, num_chains=CHAINS, progress_bar=False)

    def sample(seed: int) -> dict[str, np.ndarray]:
        sampler.run(jax.random.PRNGKey(seed))
        return {name: np.asarray(value) for name, value in sampler.get_samples(group_by_chain=True).items()}

    return sample


CONTENDERS: dict[str, tuple[str, Callable[[Problem], Sampler]]] = {
    "probseq gibbs": ("probseq", probseq_gibbs),
    "probseq gibbs, 50,000": ("probseq", probseq_gibbs_for_longer),
    "probseq nuts": ("probseq", probseq_nuts),
    "NumPyro NUTS": ("numpyro", numpyro_nuts),
}


def log_density(draws: dict[str, np.ndarray], problem: Problem) -> np.ndarray:
    """(chains, draws) log p(data, parameters), on the parameters' own scale; what a fit says of it is spot-checked."""
    if DENSITY in draws:
        some = {name: value[:, ::997] for name, value in draws.items()}
        known = some.pop(DENSITY)
        np.testing.assert_allclose(log_density(some, problem), known, rtol=1e-9)
        return draws[DENSITY]
    count = draws[problem.by].shape[1]
    flat = {name: torch.from_numpy(np.array(value)).flatten(0, 1) for name, value in draws.items()}
    each = [{name: value[s] for name, value in flat.items()} for s in range(CHAINS * count)]
    with torch.no_grad():
        found = [float(problem.model.log_joint(one, problem.series, True)) for one in each]
    return np.array(found).reshape(CHAINS, count)


def least_effective(draws: dict[str, np.ndarray], problem: Problem) -> float:
    """The smallest bulk effective sample size of any number, states ordered in each draw."""
    from arviz_stats.base.array import array_stats

    order = np.argsort(draws[problem.by], axis=-1)
    found = [array_stats.ess(log_density(draws, problem), chain_axis=0, draw_axis=1, method="bulk")]
    for name, value in draws.items():
        if name == DENSITY:
            continue
        ordered = np.take_along_axis(value, order.reshape(order.shape + (1,) * (value.ndim - 3)), 2)
        if name == "transition":
            ordered = np.take_along_axis(ordered, order[..., None, :], 3)
        flat = ordered.reshape(*ordered.shape[:2], -1)
        found += [array_stats.ess(flat[..., i], chain_axis=0, draw_axis=1, method="bulk") for i in range(flat.shape[2])]
    return float(np.min(found))


def measure(name: str) -> list[dict[str, Any]]:
    """One contender on every problem: a row each."""
    package, make = CONTENDERS[name]
    if importlib.util.find_spec(package) is None:
        return []
    rows = []
    for problem in problems():
        sample, seconds = make(problem), []
        for seed in (1, 2):
            began = time.perf_counter()
            draws = sample(seed)
            seconds.append(time.perf_counter() - began)
        least = least_effective(draws, problem)
        row = {"problem": problem.name, "sampler": name, "effective": round(least), "first_call": seconds[0]}
        rows.append(row | {"next_call": seconds[1]})
    return rows


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """Effective draws a second, of the first call, which compiles, and of the next."""
    lines = ["| posterior | sampler | least effective draws | first call | next call | a second, first | next |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: row["problem"], reverse=True):
        first, then = row["first_call"], row["next_call"]
        cells = [row["problem"], row["sampler"], f"{row['effective']:,}", f"{first:.1f} s", f"{then:.2f} s"]
        cells += [f"{row['effective'] / first:,.0f}", f"{row['effective'] / then:,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    warnings.simplefilter("ignore")
    if len(sys.argv) == 3 and sys.argv[1] == "--json":
        print(json.dumps(measure(sys.argv[2])))
        return
    rows: list[dict[str, Any]] = []
    for name in sys.argv[1:] or CONTENDERS:  # each in a process of its own
        command = [sys.executable, "-m", "tests.benchmarks.posterior", "--json", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows += json.loads(done.stdout.splitlines()[-1])
    print(as_markdown(rows))
    if len(sys.argv) == 1:
        (HERE / "posterior.json").write_text(json.dumps(rows, indent=1) + "\n")
        (HERE / "posterior.md").write_text(as_markdown(rows))


if __name__ == "__main__":
    main()
