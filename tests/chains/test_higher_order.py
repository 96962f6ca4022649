"""Hidden chains of order k against the sum over all paths of base states, the states before the start included."""

from __future__ import annotations

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

from probseq import HMM, Fit, ModelError, Sequences, em, families, marginalize, posterior
from probseq.chains import (
    ChainCounts,
    FreeInitial,
    FreeTransitions,
    HigherOrderMarkovChain,
    HigherOrderTransitions,
    MarkovChain,
    StationaryInitial,
)

EXACT = 1e-10  # sums of at most a few thousand positive terms
LENGTHS = [4, 2]


def random_law(order: int, states: int, zero: bool = False, batch: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """(K^k,) and (K,) * (k + 1), with a move that never happens where asked."""
    generator = torch.Generator().manual_seed(order + 10 * states)
    initial = torch.rand(batch + (states**order,), generator=generator, dtype=torch.float64) + 0.1
    transition = torch.rand(batch + (states,) * (order + 1), generator=generator, dtype=torch.float64) + 0.1
    if zero:
        transition[(..., *(0,) * order, states - 1)] = 0.0
    return initial / initial.sum(-1, keepdim=True), transition / transition.sum(-1, keepdim=True)


def all_paths(order: int, states: int, lengths: list[int], initial: Tensor, transition: Tensor, table: Tensor):
    """For each sequence: (states before the start and in it, oldest first) -> p(path, data), by the definition."""
    start = 0
    for length in lengths:
        weights = {}
        for path in itertools.product(range(states), repeat=order - 1 + length):
            first = path[:order]
            code = sum(state * states**back for back, state in enumerate(reversed(first)))
            weight = initial[code]
            for t in range(order, len(path)):
                weight = weight * transition[path[t - order : t + 1]]
            for t in range(length):
                weight = weight * table[start + t, path[order - 1 + t]].exp()
            weights[path] = weight
        yield weights
        start += length


@pytest.mark.parametrize("order, states, zero", [(1, 3, False), (2, 2, False), (2, 3, True), (3, 2, True)])
def test_evidence_posterior_and_gradients(order, states, zero):
    initial, transition = random_law(order, states, zero)
    table = torch.randn(sum(LENGTHS), states, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table[1] = 0.0  # a missing step
    leaves = [one.requires_grad_() for one in (initial, transition, table)]
    chain = HigherOrderMarkovChain(initial, transition, LENGTHS, order=order)
    sums = list(all_paths(order, states, LENGTHS, *leaves))
    expected = torch.stack([torch.stack(list(weights.values())).sum().log() for weights in sums])
    found = chain.evidence(table)
    torch.testing.assert_close(found, expected, rtol=EXACT, atol=EXACT)
    wanted = torch.autograd.grad(expected.sum(), leaves)
    for leaf, one, other in zip(leaves, torch.autograd.grad(found.sum(), leaves), wanted, strict=True):
        never = (leaf.detach() == 0) & (leaf is transition)  # a structural zero stays one: it is given no slope
        torch.testing.assert_close(one, other.masked_fill(never, 0.0), rtol=EXACT, atol=EXACT)
    law = chain.posterior(table.detach()).remembering(order)
    start = 0
    for weights, length in zip(sums, LENGTHS, strict=True):
        total = sum(float(weight.detach()) for weight in weights.values())
        for t in range(length):
            share = np.zeros(states)
            for path, weight in weights.items():
                share[path[order - 1 + t]] += float(weight.detach()) / total
            assert law.smoothed[start + t].tolist() == pytest.approx(share.tolist(), abs=EXACT)
        best = max(weights, key=lambda path: float(weights[path].detach()))
        assert law.viterbi[start : start + length].tolist() == list(best[order - 1 :])
        start += length


def test_gradcheck_of_first_and_second_order():
    initial, transition = random_law(2, 2)
    table = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits = [initial.log().requires_grad_(), transition.log().requires_grad_(), table.requires_grad_()]

    def evidence(initial: Tensor, transition: Tensor, table: Tensor) -> Tensor:
        law = initial.softmax(-1), transition.softmax(-1)
        return HigherOrderMarkovChain(*law, [3, 1], order=2).evidence(table)

    assert torch.autograd.gradcheck(evidence, logits)
    assert torch.autograd.gradgradcheck(evidence, logits)


def test_log_prob_is_that_of_each_path_and_sums_to_one():
    initial, transition = random_law(2, 2)
    chain = HigherOrderMarkovChain(initial, transition, 3, order=2)
    total = 0.0
    for path in itertools.product(range(4), repeat=3):
        states = [code % 2 for code in path]
        follows = all(path[t + 1] // 2 == states[t] for t in range(2))
        wanted = float(initial[path[0]]) if follows else 0.0
        for t in range(2):
            wanted *= float(transition[path[t] // 2, states[t], states[t + 1]])
        assert float(chain.log_prob(torch.tensor(path)).exp()) == pytest.approx(wanted, abs=1e-14)
        total += wanted
    assert total == pytest.approx(1.0)


def test_order_one_is_the_markov_chain():
    initial, transition = random_law(1, 3)
    chain, plain = (
        HigherOrderMarkovChain(initial, transition, [5, 3], order=1),
        MarkovChain(initial, transition, [5, 3]),
    )
    path = plain.sample()
    assert torch.equal(chain.log_prob(path), plain.log_prob(path))


def test_samples_have_the_frequencies_of_the_law():
    initial, transition = random_law(2, 2)
    pyro.set_rng_seed(0)
    chain = HigherOrderMarkovChain(initial, transition, 20_000, order=2)
    codes = chain.sample()
    assert torch.equal(codes[1:] // 2, codes[:-1] % 2)
    counts = torch.zeros(4, 2).double().index_put_((codes[:-1], codes[1:] % 2), torch.tensor(1.0).double(), True)
    shares = counts / counts.sum(-1, keepdim=True)
    # Each row has 2,000 steps or more: five standard errors of a share are below 0.06.
    torch.testing.assert_close(shares, transition.reshape(4, 2), rtol=0, atol=0.06)


def program(values: Tensor) -> None:
    """Two regimes whose next one depends on the last two; the state of a code is its remainder."""
    one = torch.ones(2, 2, 2, dtype=torch.float64)
    transition = pyro.sample("transition", dist.Dirichlet(one).to_event(2))
    loc = pyro.sample("loc", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
    first = torch.full((4,), 0.25, dtype=torch.float64)
    code = pyro.sample("state", HigherOrderMarkovChain(first, transition, len(values), order=2))
    with pyro.plate("step", len(values)):
        pyro.sample(
            "y", dist.Normal(loc[..., code % 2] if loc.dim() == 1 else loc[..., 0, :][..., code % 2], 1.0), obs=values
        )


def test_a_program_with_such_a_chain_is_marginalised():
    values = torch.tensor([0.3, -1.0, 2.0, 0.1], dtype=torch.float64)
    given = {"transition": random_law(2, 2)[1], "loc": torch.tensor([-1.0, 1.0], dtype=torch.float64)}
    conditioned = pyro.condition(program, given)
    joints = []
    for path in itertools.product(range(4), repeat=4):
        fixed = pyro.condition(conditioned, {"state": torch.tensor(path)})
        joints.append(poutine.trace(fixed).get_trace(values).log_prob_sum())
    found = poutine.trace(marginalize(conditioned)).get_trace(values).log_prob_sum()
    torch.testing.assert_close(found, torch.stack(joints).logsumexp(0), rtol=EXACT, atol=EXACT)
    law = posterior(program, given)(values)["state"].remembering(2)
    assert law.states == 2 and law.smoothed.shape == (4, 2)


def test_several_draws_of_the_parameters_at_once():
    initial, transition = random_law(2, 2, batch=(3, 1))
    table = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = HigherOrderMarkovChain(initial, transition, [3, 2], order=2).evidence(table)
    alone = [HigherOrderMarkovChain(initial[s, 0], transition[s, 0], [3, 2], order=2).evidence(table) for s in range(3)]
    torch.testing.assert_close(together, torch.stack(alone))


def test_shapes_that_are_no_chain_are_refused():
    initial, transition = random_law(2, 2)
    with pytest.raises(ModelError, match="A chain of order 2 over K states must have"):
        HigherOrderMarkovChain(initial[:2], transition, 3, order=2)
    with pytest.raises(ModelError, match="order must be an integer of at least 1"):
        HigherOrderTransitions(0)


# ---- the transition law of a model -----------------------------------------------------------------------------------


def small_series() -> Sequences:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=4), rng.normal(size=2)]
    parts[0][2] = np.nan
    return Sequences.from_arrays(parts, weights=[1.0, 2.0])


@pytest.mark.parametrize("order, states", [(1, 3), (2, 2), (2, 3), (3, 2)])
@pytest.mark.parametrize("stationary", [False, True])
def test_model_is_the_sum_over_all_paths(order, states, stationary):
    law = HigherOrderTransitions(order)
    initial, transition = random_law(order, states)
    first = StationaryInitial() if stationary else FreeInitial()
    model = HMM(states, families.Gaussian(), first, law)
    parameters = {"transition": transition, "loc": torch.arange(states).double(), "scale": torch.ones(states).double()}
    series = small_series()
    parameters = model.complete(parameters if stationary else {**parameters, "initial": initial})
    table = families.Gaussian().log_prob(series.values, parameters)
    table[~series.step_observed] = 0.0
    sums = all_paths(order, states, series.lengths.tolist(), parameters["initial"], transition, table)
    expected = torch.stack([torch.stack(list(weights.values())).sum().log() for weights in sums])
    torch.testing.assert_close(model.log_prob(parameters, series), expected, rtol=EXACT, atol=EXACT)
    traced = marginalize(pyro.condition(model.program, parameters))
    scored = poutine.trace(traced).get_trace(series)
    scored.compute_log_prob()
    prior = law.log_prior(parameters) + (0.0 if stationary else model.initial.log_prior(parameters["initial"]))
    total = float(model.log_prior(parameters, series) + (torch.tensor([1.0, 2.0]).double() * expected).sum())
    assert float(scored.log_prob_sum()) == pytest.approx(total, abs=1e-9)
    assert np.isfinite(float(prior))


@pytest.mark.parametrize("initial", [FreeInitial(), StationaryInitial()])
@pytest.mark.parametrize("priors", [False, True])
def test_em_never_falls_and_order_one_is_free_transitions(initial, priors):
    rng = np.random.default_rng(3)
    series = Sequences.from_arrays(np.concatenate([rng.normal(loc, 1.0, 12) for loc in (0, 3, 0, 3)]))
    fits = {}
    for law in (HigherOrderTransitions(1), FreeTransitions(), HigherOrderTransitions(2)):
        fits[law] = em(HMM(2, families.Gaussian(), initial, law), series, priors=priors, restarts=2)
        assert (fits[law].objective.diff() >= -1e-9).all()
    one, free, two = fits.values()
    # Both stop within a share of 1e-8 of the objective of the same maximum.
    assert one.log_likelihood == pytest.approx(free.log_likelihood, abs=1e-5)
    assert one.n_parameters == free.n_parameters
    assert two.n_parameters == free.n_parameters + 2 + (2 if initial == FreeInitial() else 0)
    if not priors:
        assert two.log_likelihood >= free.log_likelihood - 1e-6


def test_the_moves_of_a_second_order_chain_are_found(tmp_path):
    """Dwell times that alternate: after two equal states the chain leaves, after a change it stays."""
    transition = torch.tensor([[[0.1, 0.9], [0.1, 0.9]], [[0.9, 0.1], [0.9, 0.1]]], dtype=torch.float64)
    pyro.set_rng_seed(1)
    codes = HigherOrderMarkovChain(torch.full((4,), 0.25).double(), transition, 2000, order=2).sample()
    loc = torch.tensor([0.0, 6.0], dtype=torch.float64)
    values = loc[codes % 2] + torch.randn(2000, dtype=torch.float64)
    series = Sequences(values, torch.tensor([2000]))
    fits = [em(HMM(2, families.Gaussian(), transition=law), series, restarts=2) for law in (FreeTransitions(), LAW)]
    assert fits[1].bic < fits[0].bic - 100
    torch.testing.assert_close(fits[1].parameters["transition"], transition, rtol=0, atol=0.06)  # rows of 500 steps
    decoded = fits[1].posterior(series).viterbi
    assert (decoded == codes % 2).double().mean() > 0.99
    again = Fit.load(fits[1].save(tmp_path / "fit"))
    assert again.model == fits[1].model and torch.equal(again.log_prob(series), fits[1].log_prob(series))
    assert again.parameters["transition"].shape == (2, 2, 2)


LAW = HigherOrderTransitions(2)


def test_the_law_alone():
    _, transition = random_law(2, 3)
    order = torch.tensor([2, 0, 1])
    relabelled = LAW.relabelled({"transition": transition}, order)["transition"]
    for path in itertools.product(range(3), repeat=3):
        assert relabelled[path] == transition[tuple(int(order[state]) for state in path)]
    assert LAW.n_parameters(3) == 18
    moves = torch.zeros(1, 4, 4, dtype=torch.float64)
    moves[0, 0, 0], moves[0, 0, 1], moves[0, 3, 2] = 3.0, 1.0, 2.0  # 00 -> 0 three times, 00 -> 1 once, 11 -> 0 twice
    counts = ChainCounts(torch.zeros(1), torch.zeros(4).double(), moves, torch.zeros(1, 4))
    current = random_law(2, 2)[1]
    found = LAW.maximise(counts, {"transition": current}, False, small_series())["transition"]
    assert found[0, 0].tolist() == [0.75, 0.25] and found[1, 1].tolist() == [1.0, 0.0]
    assert torch.equal(found[0, 1], current[0, 1])
