"""The evidence function by itself: first and second derivatives, batches, tables and indices, and the edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from probseq import DataError, MarkovChain, marginalize, posterior
from probseq.chains import evidence

LENGTHS = torch.tensor([3, 1, 2])


def inputs(
    random_laws, states: int = 2, rows: int = 6, batch: tuple[int, ...] = (), seed: int = 0, zeros: bool = False
):
    generator = torch.Generator().manual_seed(seed)
    zero = (states - 1, 0) if zeros else None
    log_initial = random_laws(generator, *batch, 1, states).log()
    log_transition = random_laws(generator, *batch, 2, states, states, zero=zero).log()
    log_table = torch.randn(*batch, rows, states, generator=generator, dtype=torch.float64)
    return [value.requires_grad_() for value in (log_initial, log_transition, log_table)]


INDEX = {
    "dense": (None, torch.tensor([0, 1, 0, 0, 1, 1])),
    "uint8": (np.array([0, 2, 1, 1, 0, 2], dtype=np.uint8), np.array([0, 1, 0, 0, 1, 1], dtype=np.uint8)),
    "uint16": (np.array([0, 2, 1, 1, 0, 2], dtype=np.uint16), np.array([0, 1, 0, 0, 1, 1], dtype=np.uint16)),
    "int64": (torch.tensor([0, 2, 1, 1, 0, 2]), torch.tensor([0, 1, 0, 0, 1, 1])),
}


def by_paths(log_initial, log_transition, log_table, emission_index, transition_index) -> torch.Tensor:
    """(N,) nats, from the definition."""
    rows = torch.arange(6) if emission_index is None else torch.as_tensor(np.asarray(emission_index).astype(int))
    moves, start, result = torch.as_tensor(np.asarray(transition_index).astype(int)), 0, []
    for length in LENGTHS.tolist():
        terms = []
        for path in itertools.product(range(log_initial.shape[-1]), repeat=length):
            term = log_initial[0, path[0]] + sum(log_table[rows[start + t], path[t]] for t in range(length))
            for t in range(length - 1):
                term = term + log_transition[moves[start + t], path[t], path[t + 1]]
            terms.append(term)
        result.append(torch.stack(terms).logsumexp(0))
        start += length
    return torch.stack(result)


@pytest.mark.parametrize("kind", INDEX)
@pytest.mark.parametrize("zeros", [False, True])
def test_value_gradient_and_hessian(random_laws, kind, zeros):
    """Against the sum over paths; the Hessian by differentiating that sum twice.

    The sequences are weighted differently, so that the incoming gradient is not one number.
    """
    emission_index, transition_index = INDEX[kind]
    values = inputs(random_laws, rows=6 if kind == "dense" else 3, zeros=zeros)
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    expected = (by_paths(*values, emission_index, transition_index) * weight).sum()
    found = (evidence(*values, LENGTHS, emission_index, transition_index) * weight).sum()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    plain = torch.autograd.grad(found, values, retain_graph=True)
    wanted = torch.autograd.grad(expected, values, create_graph=True)
    graphed = torch.autograd.grad(found, values, create_graph=True)
    probe = [torch.randn(value.shape, dtype=torch.float64) for value in values]
    for one, two, three in zip(plain, graphed, wanted, strict=True):
        torch.testing.assert_close(one, three.detach(), rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(two, three, rtol=1e-11, atol=1e-12)
    sums = [
        sum(
            (part * torch.where(value.isinf(), 0.0, p)).sum()
            for part, value, p in zip(grads, values, probe, strict=True)
        )
        for grads in (graphed, wanted)
    ]
    second = [torch.autograd.grad(total, values) for total in sums]
    for one, two, value in zip(*second, values, strict=True):
        possible = ~value.isinf()
        torch.testing.assert_close(one[possible], two[possible], rtol=1e-10, atol=1e-11)
        assert not one.isnan().any()


def test_gradgradcheck(random_laws):
    values = inputs(random_laws, states=3)
    moves = INDEX["dense"][1]
    assert torch.autograd.gradcheck(lambda *x: evidence(*x, LENGTHS, None, moves), values)
    assert torch.autograd.gradgradcheck(lambda *x: evidence(*x, LENGTHS, None, moves), values)


def test_hessian_of_a_likelihood_in_its_parameters_against_finite_differences(random_laws):
    """The Hessian that standard errors need, by autograd, against differences of the gradient: 1e-6."""
    counts = torch.tensor([0.0, 1.0, 7.0, 5.0, 2.0], dtype=torch.float64)

    def log_likelihood(u: torch.Tensor) -> torch.Tensor:
        initial, transition = u[:2].softmax(-1), u[2:6].reshape(2, 2).softmax(-1)
        rate = u[6:].exp()

        def program():
            state = pyro.sample("state", MarkovChain(initial, transition, [3, 2]))
            with pyro.plate("step", 5):
                pyro.sample("y", dist.Poisson(rate[state]), obs=counts)

        return pyro.poutine.trace(marginalize(program)).get_trace().log_prob_sum()

    point = torch.tensor([0.3, -0.1, 1.0, 0.0, -0.5, 0.7, 0.2, 1.5], dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(log_likelihood, point)
    step = 1e-5
    for column in range(8):
        shift = torch.zeros(8, dtype=torch.float64)
        shift[column] = step
        sides = [torch.autograd.functional.jacobian(log_likelihood, point + sign * shift) for sign in (1, -1)]
        torch.testing.assert_close(hessian[column], (sides[0] - sides[1]) / (2 * step), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3)])
def test_batches_are_rows_by_themselves(random_laws, batch):
    values = inputs(random_laws, batch=batch)
    moves = INDEX["dense"][1]
    found = evidence(*values, LENGTHS, None, moves)
    assert found.shape == (*batch, 3)
    gradient = torch.autograd.grad(found.sum(), values)
    for place in itertools.product(*map(range, batch)):
        rows = [value[place].detach().requires_grad_() for value in values]
        single = evidence(*rows, LENGTHS, None, moves)
        torch.testing.assert_close(found[place], single, rtol=1e-13, atol=1e-13)
        for one, two in zip(gradient, torch.autograd.grad(single.sum(), rows), strict=True):
            torch.testing.assert_close(one[place], two, rtol=1e-12, atol=1e-13)


def test_batches_broadcast(random_laws):
    """One initial law and one table for four matrices: gradients add up."""
    log_initial, _, log_table = inputs(random_laws)
    _, log_transition, _ = inputs(random_laws, batch=(4,))
    found = evidence(log_initial, log_transition, log_table, LENGTHS, None, INDEX["dense"][1])
    assert found.shape == (4, 3)
    parts = [evidence(log_initial, one, log_table, LENGTHS, None, INDEX["dense"][1]) for one in log_transition]
    torch.testing.assert_close(found, torch.stack(parts))
    whole = torch.autograd.grad(found.sum(), (log_initial, log_table))
    summed = torch.autograd.grad(torch.stack(parts).sum(), (log_initial, log_table))
    for one, two in zip(whole, summed, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-13)


def test_an_initial_law_for_each_sequence(random_laws):
    generator = torch.Generator().manual_seed(0)
    log_initial = random_laws(generator, 3, 2).log()
    _, log_transition, log_table = inputs(random_laws)
    found = evidence(log_initial, log_transition, log_table, LENGTHS, None, INDEX["dense"][1])
    for n in range(3):
        single = evidence(log_initial[n : n + 1], log_transition, log_table, LENGTHS, None, INDEX["dense"][1])
        torch.testing.assert_close(found[n], single[n])


# ---- edges ---------------------------------------------------------------------------------------------------------

LAWS = torch.tensor([0.25, 0.75], dtype=torch.float64), torch.tensor([[0.8, 0.2], [0.0, 1.0]], dtype=torch.float64)


def program(levels: torch.Tensor, lengths, counts: torch.Tensor, laws=LAWS, seen=None):
    def model():
        state = pyro.sample("state", MarkovChain(*laws, lengths))
        with (
            pyro.plate("step", len(counts)),
            pyro.poutine.mask(mask=torch.ones(len(counts)).bool() if seen is None else seen),
        ):
            pyro.sample("y", dist.Poisson(levels[state]), obs=counts)

    return model


def score(model) -> float:
    return float(pyro.poutine.trace(marginalize(model)).get_trace().log_prob_sum())


def test_one_step():
    levels, counts = torch.tensor([1.0, 5.0], dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64)
    chance = 0.25 * math.exp(-1) / 6 + 0.75 * math.exp(-5) * 125 / 6
    model = program(levels, 1, counts)
    assert score(model) == pytest.approx(math.log(chance), abs=1e-12)
    found = posterior(model)()["state"]
    assert float(found.smoothed[0, 0]) == pytest.approx(0.25 * math.exp(-1) / 6 / chance, abs=1e-12)
    assert (found.pairwise == 0).all() and (found.expected_transitions == 0).all()


def test_one_state():
    laws = torch.ones(1).double(), torch.ones(1, 1).double()
    counts = torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64)
    model = program(torch.tensor([2.0], dtype=torch.float64), [2, 1], counts, laws)
    expected = dist.Poisson(torch.tensor(2.0, dtype=torch.float64)).log_prob(counts).sum()
    assert score(model) == pytest.approx(float(expected), abs=1e-12)
    found = posterior(model)()["state"]
    assert (
        (found.smoothed == 1).all()
        and (found.viterbi == 0).all()
        and (found.step_entropy == 0).all()
        and (found.entropy == 0).all()
    )


def test_all_steps_missing_leave_the_prior():
    """No evidence at all: log 1 = 0, smoothed states are the chain's own, Viterbi is the likeliest path."""
    counts = torch.zeros(3).double()
    model = program(torch.tensor([1.0, 5.0], dtype=torch.float64), 3, counts, seen=torch.zeros(3).bool())
    assert score(model) == pytest.approx(0.0, abs=1e-15)
    found = posterior(model)()["state"]
    law, expected = LAWS[0], []
    for _ in range(3):
        expected.append(law.tolist())
        law = law @ LAWS[1]
    np.testing.assert_allclose(found.smoothed.numpy(), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.filtered.numpy(), expected, rtol=0, atol=1e-14)
    assert found.viterbi.tolist() == [1, 1, 1]
    assert float(found.viterbi_log_prob) == pytest.approx(math.log(0.75), abs=1e-14)


@pytest.mark.parametrize(
    ("codes", "initial", "where"),
    [([1, 0, 1, 1], 0, (1, 1)), ([1, 1, 1, 0], 0, (0, 1)), ([0, 0, 1, 0], 1, (1, 0)), ([1, 0, 0, 0], 1, (0, 0))],
)
def test_an_impossible_series_is_minus_infinity_and_its_first_step_is_named(codes, initial, where):
    """State 0 moves to state 1 for certain, which is never left and emits zeros only; two sequences of two steps."""
    table = torch.tensor([[0.25, 1.0], [0.75, 0.0]], dtype=torch.float64).log()[codes]
    transition = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    chain = MarkovChain(torch.eye(2, dtype=torch.float64)[initial], transition, [2, 2])
    assert torch.isneginf(chain.evidence(table)).nonzero()[0].item() == where[0]
    assert chain.posterior(table).first_impossible_step() == where
    message = rf"probability zero at step {where[1]} \(from 0\) of sequence {where[0]} \(from 0\)"
    for answer in ("smoothed", "filtered", "viterbi", "viterbi_log_prob", "pairwise", "local", "entropy"):
        with pytest.raises(DataError, match=message):
            getattr(chain.posterior(table), answer)
    with pytest.raises(DataError, match=message):
        chain.posterior(table).sample(seed=0)


def test_the_gradient_of_an_impossible_sequence_is_zero_and_leaves_the_others_alone():
    table = torch.tensor([[0.0, -1.0], [-torch.inf, -torch.inf], [0.3, 0.1], [0.2, -0.4]], dtype=torch.float64)
    both = table.clone().requires_grad_()
    laws = LAWS[0].log()[None], torch.tensor([[0.8, 0.2], [0.4, 0.6]], dtype=torch.float64).log()[None]
    found = evidence(*laws, both, torch.tensor([2, 2]))
    assert torch.isneginf(found[0]) and torch.isfinite(found[1])
    (gradient,) = torch.autograd.grad(found[1], both)
    alone = table[2:].clone().requires_grad_()
    (expected,) = torch.autograd.grad(evidence(*laws, alone, torch.tensor([2])).sum(), alone)
    torch.testing.assert_close(gradient[2:], expected)
    assert (gradient[:2] == 0).all()


def test_a_long_series_neither_underflows_nor_drifts():
    """T = 200,000 of one symbol: log p = log(initial . A^T-1 diag . 1) by the eigenvalues of the 2 x 2 product."""
    steps = 200_000
    law = torch.tensor([0.3, 0.6], dtype=torch.float64)
    table = law.log()[None]
    chain = MarkovChain(LAWS[0], torch.tensor([[0.8, 0.2], [0.4, 0.6]], dtype=torch.float64), steps)
    found = float(chain.evidence(table, np.zeros(steps, dtype=np.uint8)))
    one_step = np.array([[0.8, 0.2], [0.4, 0.6]]) * law.numpy()
    values, vectors = np.linalg.eig(one_step)
    share = (LAWS[0].numpy() * law.numpy()) @ vectors * np.linalg.solve(vectors, np.ones(2))
    top = values.argmax()
    expected = (steps - 1) * math.log(values[top]) + math.log(share[top])
    assert found == pytest.approx(expected, rel=1e-11)


def test_a_weight_of_zero_leaves_an_impossible_sequence_out():
    """Zero times log 0 is nothing, in the program and in the law of a path alone."""
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64)
    codes = torch.tensor([1, 0, 1, 1])  # state 0 moves to state 1 for certain, which emits zeros only
    law = torch.tensor([[0.25, 0.75], [1.0, 0.0]], dtype=torch.float64)
    initial = torch.tensor([1.0, 0.0], dtype=torch.float64)
    transition = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    chain = MarkovChain(initial, transition, [2, 2], weights=weights)

    def model():
        state = pyro.sample("state", chain)
        with pyro.plate("step", 4):
            pyro.sample("y", dist.Bernoulli(law[state][..., 1]), obs=codes.double())

    assert score(model) == pytest.approx(math.log(0.75), abs=1e-6)  # torch's Bernoulli is exact to 1e-7 only
    assert float(chain.log_prob(torch.tensor([0, 1, 1, 0]))) == 0.0
