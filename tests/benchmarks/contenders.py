"""The same work in every package: one E-step, one whole EM iteration, one Viterbi path, one gradient, one SVI step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.autoguide import AutoDelta

from probseq import HMM, MarkovChain, Sequences, families, marginalize

Call = Callable[[], object]


@dataclass(frozen=True)
class Problem:
    """A Gaussian series from a sticky chain, and parameters near the truth.

    Args:
        states: K.
        lengths: steps of each sequence.
        values: (T,) observations.
        transition: (K, K).
        loc: (K,).
    """

    states: int
    lengths: list[int]
    values: np.ndarray
    transition: np.ndarray
    loc: np.ndarray


def gaussian_problem(states: int, lengths: list[int], seed: int = 0) -> Problem:
    """Neighbouring states are two standard deviations apart, a visit lasts ten steps on average."""
    rng = np.random.default_rng(seed)
    steps = sum(lengths)
    jump = rng.random(steps) < 0.1
    state = np.cumsum(np.where(jump, rng.integers(1, max(states, 2), steps), 0)) % states
    loc = 2.0 * np.arange(states)
    transition = np.full((states, states), 0.1 / max(states - 1, 1))
    np.fill_diagonal(transition, 0.9)
    return Problem(states, lengths, rng.normal(loc[state], 1.0), transition, loc)


def probseq_calls(problem: Problem) -> dict[str, Call]:
    """E-step, EM iteration and Viterbi."""
    series = Sequences.from_arrays(problem.values, lengths=problem.lengths)
    model = HMM(problem.states, families.Gaussian()).bind(series)
    parameters = {
        "initial": torch.full((problem.states,), 1.0 / problem.states, dtype=torch.float64),
        "transition": torch.from_numpy(problem.transition),
        "loc": torch.from_numpy(problem.loc),
        "scale": torch.ones(problem.states, dtype=torch.float64),
    }

    def iteration() -> object:
        return model.maximise(parameters, model.expect(parameters, series), False, series)

    return {
        "e_step": lambda: model.expect(parameters, series),
        "em": iteration,
        "viterbi": lambda: model.posterior(parameters, series).viterbi,
    }


def hmmlearn_calls(problem: Problem, implementation: str) -> dict[str, Call]:
    """The same by hmmlearn; its own private E- and M-step, so that no convergence check is timed."""
    from hmmlearn.hmm import GaussianHMM

    model = GaussianHMM(problem.states, covariance_type="diag", implementation=implementation, init_params="")
    model.startprob_ = np.full(problem.states, 1.0 / problem.states)
    model.transmat_ = problem.transition.copy()
    model.means_ = problem.loc[:, None].copy()
    model.covars_ = np.ones((problem.states, 1))
    model.n_features = 1
    values = problem.values[:, None]

    def iteration() -> object:
        statistics, _ = model._do_estep(values, problem.lengths)
        keep = model.startprob_.copy(), model.transmat_.copy(), model.means_.copy(), model._covars_.copy()
        model._do_mstep(statistics)
        model.startprob_, model.transmat_, model.means_, model._covars_ = keep

    return {
        "e_step": lambda: model._do_estep(values, problem.lengths),
        "em": iteration,
        "viterbi": lambda: model.decode(values, problem.lengths, algorithm="viterbi"),
    }


def dynamax_calls(problem: Problem) -> dict[str, Call]:
    """The jitted E-step of dynamax in float64; equal lengths only, vectorised over sequences."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dynamax.hidden_markov_model import DiagonalGaussianHMM

    model = DiagonalGaussianHMM(problem.states, 1)
    parameters, _ = model.initialize(
        jax.random.PRNGKey(0),
        initial_probs=jnp.full(problem.states, 1.0 / problem.states),
        transition_matrix=jnp.asarray(problem.transition),
        emission_means=jnp.asarray(problem.loc[:, None]),
        emission_scale_diags=jnp.ones((problem.states, 1)),
    )
    emissions = jnp.asarray(problem.values.reshape(len(problem.lengths), -1, 1))
    e_step = jax.jit(jax.vmap(model.e_step, in_axes=(None, 0)))
    if len(problem.lengths) == 1:
        one = jax.jit(model.e_step)
        return {"e_step": lambda: jax.block_until_ready(one(parameters, emissions[0]))}
    return {"e_step": lambda: jax.block_until_ready(e_step(parameters, emissions))}


PYRO = {"gradient": "pyro DiscreteHMM", "svi_step": "pyro TraceEnum_ELBO"}


def gradient_calls(problem: Problem) -> dict[str, Call]:
    """Value and gradient of log p(x) of an `HMM` in logits, locations and scales."""
    series = Sequences.from_arrays(problem.values, lengths=problem.lengths)
    model = HMM(problem.states, families.Gaussian()).bind(series)

    def gradient() -> object:
        start, logits, loc, scale = _leaves(problem)
        parameters = {"initial": _rows(start), "transition": _rows(logits), "loc": loc, "scale": scale}
        model.log_joint(parameters, series, priors=False).backward()
        return loc.grad

    return {"gradient": gradient}


def pyro_gradient_calls(problem: Problem) -> dict[str, Call]:
    """The same by Pyro's DiscreteHMM, in the same parameters."""
    values = torch.from_numpy(problem.values)

    def gradient() -> object:
        start, logits, loc, scale = _leaves(problem)
        law = dist.DiscreteHMM(start, logits, dist.Normal(loc, scale), duration=len(values))
        law.log_prob(values).backward()
        return loc.grad

    return {"gradient": gradient}


def svi_step_calls(problem: Problem) -> dict[str, Call]:
    """A whole SVI step with AutoDelta on the marginalised program."""
    steps, values = len(problem.values), torch.from_numpy(problem.values)

    def program() -> None:
        initial, transition, loc, scale = _parameters(problem.states)
        state = pyro.sample("state", MarkovChain(initial, transition, steps))
        with pyro.plate("step", steps):
            pyro.sample("y", dist.Normal(loc[state], scale[state]), obs=values)

    return {"svi_step": _stepper(marginalize(program), Trace_ELBO())}


def pyro_svi_step_calls(problem: Problem) -> dict[str, Call]:
    """The same with TraceEnum_ELBO over pyro.markov."""
    steps, values = len(problem.values), torch.from_numpy(problem.values)

    def program() -> None:
        initial, transition, loc, scale = _parameters(problem.states)
        state = None
        for t in pyro.markov(range(steps)):
            law = initial if state is None else transition[state]
            state = pyro.sample(f"state_{t}", dist.Categorical(law), infer={"enumerate": "parallel"})
            pyro.sample(f"y_{t}", dist.Normal(loc[state], scale[state]), obs=values[t])

    return {"svi_step": _stepper(program, TraceEnum_ELBO(max_plate_nesting=0))}


def _leaves(problem: Problem) -> list[torch.Tensor]:
    start = torch.zeros(problem.states, dtype=torch.float64)
    logits = torch.from_numpy(problem.transition).log()
    loc, scale = torch.from_numpy(problem.loc), torch.ones(problem.states, dtype=torch.float64)
    return [value.clone().requires_grad_() for value in (start, logits, loc, scale)]


def _rows(logits: torch.Tensor) -> torch.Tensor:
    """Rows of probabilities. torch's own softmax wakes a thread even for K numbers, which then stands in the way."""
    weights = logits.exp()
    return weights / weights.sum(-1, keepdim=True)


def _parameters(states: int) -> tuple[torch.Tensor, ...]:
    ones = torch.ones(states, dtype=torch.float64)
    initial = pyro.sample("initial", dist.Dirichlet(ones))
    transition = pyro.sample("transition", dist.Dirichlet(ones.expand(states, states)).to_event(1))
    loc = pyro.sample("loc", dist.Normal(0.0 * ones, 10.0 * ones).to_event(1))
    scale = pyro.sample("scale", dist.LogNormal(0.0 * ones, ones).to_event(1))
    return initial, transition, loc, scale


def _stepper(program: Callable[[], None], elbo: object) -> Call:
    guide = AutoDelta(pyro.poutine.block(program, expose=["initial", "transition", "loc", "scale"]))
    return SVI(program, guide, pyro.optim.Adam({"lr": 0.01}), elbo).step  # type: ignore[attr-defined]
