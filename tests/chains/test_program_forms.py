"""Programs of every form that a user may write, each against the sum over all paths of the program as it stands."""

from __future__ import annotations

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, config_enumerate
from pyro.ops.indexing import Vindex

from probseq import MarkovChain, Sequences, marginalize, posterior

# Sums of at most 2^9 positive terms of log-probabilities below 100.
EXACT = {"rtol": 1e-10, "atol": 1e-10}

RATE = torch.tensor([1.0, 6.0], dtype=torch.float64)
COUNTS = torch.tensor([0.0, 1.0, 7.0, 5.0, 2.0], dtype=torch.float64)
SIZES = torch.tensor([0.3, -1.0, 2.0, 2.5, 0.1], dtype=torch.float64)
COVARIATE = torch.tensor([1.0, -0.5, 0.2, 0.0, 2.0], dtype=torch.float64)


def leaves(random_laws, seed: int = 0, states: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "initial": random_laws(generator, states).requires_grad_(),
        "transition": random_laws(generator, states, states).requires_grad_(),
    }


def check(program, parameters, sum_over_paths, log_joint, observed=("y",), states: int = 2, steps: int = 5) -> None:
    """Value, gradient and smoothed states."""
    given = pyro.condition(program, parameters)
    exact = sum_over_paths(given, states, steps, observed=observed)
    expected, found = exact.joint.logsumexp(0), log_joint(marginalize(given))
    torch.testing.assert_close(found, expected, **EXACT)
    values = list(parameters.values())
    for one, other in zip(torch.autograd.grad(found, values), torch.autograd.grad(expected, values), strict=True):
        torch.testing.assert_close(one, other, **EXACT)
    smoothed = posterior(program, parameters)()["state"].smoothed
    for step, state in itertools.product(range(steps), range(states)):
        assert float(smoothed[step, state]) == pytest.approx(exact.share(step, state), abs=1e-10)


def laws(states: int = 2):
    flat = torch.ones(states, dtype=torch.float64)
    initial = pyro.sample("initial", dist.Dirichlet(flat))
    return initial, pyro.sample("transition", dist.Dirichlet(flat.expand(states, states)).to_event(1))


def test_two_observed_sites_covariate_and_autoregression(random_laws, sum_over_paths, log_joint):
    """Counts with a covariate, and sizes that depend on the size before: ten lines of a user's own."""

    def program():
        initial, transition = laws()
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        pull = pyro.sample("pull", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        state = pyro.sample("state", MarkovChain(initial, transition, 5))
        before = torch.cat([SIZES[:1], SIZES[:-1]])
        with pyro.plate("step", 5):
            pyro.sample("count", dist.Poisson(RATE[state] * (slope * COVARIATE).exp()), obs=COUNTS)
            pyro.sample("size", dist.Normal(pull[state] * before, 1.0), obs=SIZES)

    parameters = leaves(random_laws) | {
        "slope": torch.tensor(0.3, dtype=torch.float64, requires_grad=True),
        "pull": torch.tensor([0.1, 0.9], dtype=torch.float64, requires_grad=True),
    }
    check(program, parameters, sum_over_paths, log_joint, observed=("count", "size"))


def test_a_site_that_no_state_touches_counts_once(random_laws, sum_over_paths, log_joint):
    def program():
        initial, transition = laws()
        state = pyro.sample("state", MarkovChain(initial, transition, [2, 3]))
        with pyro.plate("step", 5):
            pyro.sample("y", dist.Poisson(RATE[state]), obs=COUNTS)
            pyro.sample("size", dist.Normal(0.0, 1.0), obs=SIZES)

    check(program, leaves(random_laws), sum_over_paths, log_joint, observed=("y", "size"))


def test_state_in_a_mixture_and_in_torch_where(random_laws, sum_over_paths, log_joint):
    """The state may pass through any elementwise code, not only as an index."""

    def program():
        initial, transition = laws()
        state = pyro.sample("state", MarkovChain(initial, transition, 5))
        with pyro.plate("step", 5):
            width = torch.where(state == 1, 2.0, 0.5)
            pyro.sample("y", dist.Normal(state * 2.0 + COVARIATE, width), obs=SIZES)

    check(program, leaves(random_laws), sum_over_paths, log_joint)


def test_two_chains_that_know_nothing_of_each_other(random_laws, log_joint):
    """All pairs of paths of both chains."""
    slow, fast = (leaves(random_laws, seed, states) for seed, states in ((1, 2), (2, 3)))
    level = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)

    def program():
        one = pyro.sample("slow", MarkovChain(slow["initial"], slow["transition"], 3))
        other = pyro.sample("fast", MarkovChain(fast["initial"], fast["transition"], [1, 2]))
        with pyro.plate("step", 3):
            pyro.sample("count", dist.Poisson(RATE[one]), obs=COUNTS[:3])
            pyro.sample("size", dist.Normal(level[other], 1.0), obs=SIZES[:3])

    terms = []
    for one, other in itertools.product(itertools.product(range(2), repeat=3), itertools.product(range(3), repeat=3)):
        given = {"slow": torch.tensor(one), "fast": torch.tensor(other)}
        terms.append(log_joint(pyro.condition(program, given)))
    expected, found = torch.stack(terms).logsumexp(0), log_joint(marginalize(program))
    torch.testing.assert_close(found, expected, **EXACT)
    values = [*slow.values(), *fast.values(), level]
    for a, b in zip(torch.autograd.grad(found, values), torch.autograd.grad(expected, values), strict=True):
        torch.testing.assert_close(a, b, **EXACT)
    assert set(posterior(program)()) == {"slow", "fast"}
    # One chain given, the other is still summed out.
    path = torch.tensor([0, 1, 1])
    half = log_joint(marginalize(pyro.condition(program, {"slow": path})))
    kept = [
        log_joint(pyro.condition(program, {"slow": path, "fast": torch.tensor(other)}))
        for other in itertools.product(range(3), repeat=3)
    ]
    torch.testing.assert_close(half, torch.stack(kept).logsumexp(0), **EXACT)


@pytest.mark.parametrize("scale", [2.5, 0.25])
def test_scale_around_state_and_sites(random_laws, sum_over_paths, log_joint, scale):
    """A scale counts the data so many times: it multiplies the log-likelihood, not the path's own terms."""
    parameters = leaves(random_laws)

    def program(factor: float = scale):
        initial, transition = laws()
        with poutine.scale(scale=factor):
            state = pyro.sample("state", MarkovChain(initial, transition, 5))
            with pyro.plate("step", 5):
                pyro.sample("y", dist.Poisson(RATE[state]), obs=COUNTS)

    plain = sum_over_paths(pyro.condition(lambda: program(1.0), parameters), 2, 5)
    prior = log_joint(pyro.condition(laws, parameters))
    expected = prior + scale * (plain.joint.logsumexp(0) - prior)
    torch.testing.assert_close(log_joint(marginalize(pyro.condition(program, parameters))), expected, **EXACT)
    # From outside as well, where it scales the prior too.
    outside = poutine.scale(marginalize(pyro.condition(lambda: program(1.0), parameters)), scale)
    torch.testing.assert_close(log_joint(outside), scale * plain.joint.logsumexp(0), **EXACT)


def test_masks_by_handler_and_by_distribution(random_laws, sum_over_paths, log_joint):
    seen = torch.tensor([True, False, True, True, False])

    def program():
        initial, transition = laws()
        state = pyro.sample("state", MarkovChain(initial, transition, [3, 2]))
        with pyro.plate("step", 5), poutine.mask(mask=seen):
            pyro.sample("y", dist.Poisson(RATE[state]).mask(COVARIATE >= 0), obs=COUNTS)

    check(program, leaves(random_laws), sum_over_paths, log_joint)


def test_features_in_a_plate_of_their_own(random_laws, log_joint):
    """Three features at dim -2, independent given the state."""
    table = torch.stack([SIZES, SIZES.flip(0), COVARIATE])
    parameters = leaves(random_laws)

    def program():
        initial, transition = laws()
        feature = pyro.plate("feature", 3, dim=-2)
        with feature:
            level = pyro.sample("level", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        state = pyro.sample("state", MarkovChain(initial, transition, 5))
        with feature, pyro.plate("step", 5, dim=-1):
            pyro.sample("y", dist.Normal(Vindex(level)[..., state], 1.0), obs=table)

    level = torch.tensor([[[0.0, 1.0]], [[-1.0, 1.5]], [[0.5, 0.2]]], dtype=torch.float64, requires_grad=True)
    given = pyro.condition(program, parameters | {"level": level})
    terms = [log_joint(pyro.condition(given, {"state": torch.tensor(p)})) for p in itertools.product((0, 1), repeat=5)]
    expected, found = torch.stack(terms).logsumexp(0), log_joint(marginalize(given))
    torch.testing.assert_close(found, expected, **EXACT)
    values = [*parameters.values(), level]
    for a, b in zip(torch.autograd.grad(found, values), torch.autograd.grad(expected, values), strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def stations(counts: torch.Tensor):
    """Three stations, each with a chain and rates of its own."""

    def program():
        with pyro.plate("station", 3, dim=-2):
            initial = pyro.sample("initial", dist.Dirichlet(torch.ones(2).double()))
            transition = pyro.sample("transition", dist.Dirichlet(torch.ones(2, 2).double()).to_event(1))
            rate = pyro.sample("rate", dist.Gamma(RATE[:1], 0.5).expand([2]).to_event(1))
            state = pyro.sample("state", MarkovChain(initial, transition, 3))
            with pyro.plate("step", 3, dim=-1):
                pyro.sample("y", dist.Poisson(Vindex(rate)[..., state]), obs=counts)

    return program


def test_stations_in_a_plate_each_with_a_chain(random_laws, log_joint):
    generator = torch.Generator().manual_seed(3)
    counts = torch.tensor([[0.0, 1, 7], [5, 6, 2], [3, 3, 0]], dtype=torch.float64)
    parameters = {
        "initial": random_laws(generator, 3, 1, 2).requires_grad_(),
        "transition": random_laws(generator, 3, 1, 2, 2).requires_grad_(),
        "rate": torch.tensor([[[1.0, 5.0]], [[2.0, 4.0]], [[0.5, 3.0]]], dtype=torch.float64, requires_grad=True),
    }
    given = pyro.condition(stations(counts), parameters)
    paths = itertools.product((0, 1), repeat=9)
    terms = [log_joint(pyro.condition(given, {"state": torch.tensor(path).reshape(3, 3)})) for path in paths]
    expected, found = torch.stack(terms).logsumexp(0), log_joint(marginalize(given))
    torch.testing.assert_close(found, expected, **EXACT)
    values = list(parameters.values())
    for a, b in zip(torch.autograd.grad(found, values), torch.autograd.grad(expected, values), strict=True):
        torch.testing.assert_close(a, b, **EXACT)
    decoded = posterior(stations(counts), parameters)()["state"]
    assert decoded.smoothed.shape == (3, 3, 2)
    best = max(range(512), key=lambda n: float(terms[n].detach()))
    assert decoded.viterbi.flatten().tolist() == [int(bit) for bit in f"{best:09b}"]


def test_equals_pyros_own_enumeration_over_markov(random_laws):
    """TraceEnum_ELBO with one enumerated site a step, value and gradient."""
    parameters = leaves(random_laws) | {"rate": RATE.clone().requires_grad_()}
    lengths = [3, 2]

    def by_step():
        start = 0
        for number, length in enumerate(lengths):
            state = None
            for t in pyro.markov(range(start, start + length)):
                law = parameters["initial"] if state is None else Vindex(parameters["transition"])[state]
                state = pyro.sample(f"state_{number}_{t}", dist.Categorical(law))
                pyro.sample(f"y_{t}", dist.Poisson(Vindex(parameters["rate"])[state]), obs=COUNTS[t])
            start += length

    def program():
        state = pyro.sample("state", MarkovChain(parameters["initial"], parameters["transition"], lengths))
        with pyro.plate("step", 5):
            pyro.sample("y", dist.Poisson(parameters["rate"][state]), obs=COUNTS)

    def nothing():
        pass

    enumerated = config_enumerate(by_step, "parallel")
    expected = TraceEnum_ELBO(max_plate_nesting=0).differentiable_loss(enumerated, nothing)
    found = Trace_ELBO().differentiable_loss(marginalize(program), nothing)
    torch.testing.assert_close(found, expected, **EXACT)
    values = list(parameters.values())
    # Pyro normalises the laws in Categorical, so that gradients agree along the simplex only.
    for a, b in zip(torch.autograd.grad(found, values), torch.autograd.grad(expected, values), strict=True):
        along = a[..., :1] - a[..., 1:], b[..., :1] - b[..., 1:]
        torch.testing.assert_close(*along, **EXACT)


def test_return_value_and_arguments_are_the_programs_own():
    def program(series: Sequences, *, power: float):
        chain = MarkovChain(
            torch.tensor([0.5, 0.5], dtype=torch.float64), torch.full((2, 2), 0.5).double(), series.lengths
        )
        state = pyro.sample("state", chain)
        with pyro.plate("step", series.total_steps):
            pyro.sample("y", dist.Poisson(RATE[state]), obs=series.values)
        return power

    assert marginalize(program)(Sequences.from_arrays(COUNTS), power=3.0) == 3.0
    assert marginalize(program).__name__ == "program"


def test_series_may_change_between_runs(log_joint):
    """The same marginalised program scores series of any length: the independent halves add up."""

    def program(series: Sequences):
        laws = (
            torch.tensor([0.5, 0.5], dtype=torch.float64),
            torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64),
        )
        state = pyro.sample("state", MarkovChain(*laws, series.lengths))
        with pyro.plate("step", series.total_steps):
            pyro.sample("y", dist.Poisson(RATE[state]), obs=series.values)

    marginal = marginalize(program)
    both = Sequences.from_arrays([COUNTS[:3], COUNTS[3:]])
    parts = [log_joint(lambda n=n: marginal(both.take([n]))) for n in range(2)]
    torch.testing.assert_close(log_joint(lambda: marginal(both)), sum(parts), **EXACT)
    assert math.isfinite(float(parts[0]))
