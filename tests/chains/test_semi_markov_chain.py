"""The semi-Markov chain as a distribution: paths, evidence, posteriors, and a user's program."""

from __future__ import annotations

import itertools

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta

from probseq import MarkovChain, marginalize
from probseq.chains import SemiMarkovChain, posterior
from probseq.errors import DataError, ModelError

LENGTHS = [6, 1, 3]
DOUBLE = torch.float64


def random_chain(
    states: int = 2, longest: int = 3, tail: bool = True, in_progress: bool = False, seed: int = 0, draws: int = 0
) -> SemiMarkovChain:
    generator = np.random.default_rng(seed)
    lead = (draws, 1) if draws else ()

    def law(*shape: int) -> torch.Tensor:
        return torch.tensor(generator.dirichlet(np.ones(shape[-1]), lead + shape[:-1]))

    moves = law(states, states) * (1.0 - torch.eye(states))
    stay = torch.tensor(generator.uniform(0.2, 0.8, (*lead, states))) if tail else None
    return SemiMarkovChain(
        law(states),
        moves / moves.sum(-1, keepdim=True),
        law(states, longest),
        LENGTHS,
        stay=stay,
        in_progress=in_progress,
        weights=torch.tensor([1.0, 2.0, 0.5], dtype=DOUBLE),
        validate_args=True,
    )


def every_path(chain: SemiMarkovChain) -> torch.Tensor:
    return torch.tensor(list(itertools.product(range(chain.states), repeat=chain.total_steps)))


FORMS = {"a tail": {}, "at most D": {"tail": False}, "in progress": {"in_progress": True}, "geometric": {"longest": 1}}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_evidence_is_the_sum_over_all_paths(form, seed):
    chain = random_chain(seed=seed, **FORMS[form])
    paths = every_path(chain)
    law = chain.sequence_log_prob(paths)  # (2^10, N)
    torch.testing.assert_close(chain.log_prob(paths), law @ chain.weights, rtol=1e-12, atol=1e-12)
    table = torch.randn(10, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    given = table[torch.arange(10), paths]
    joint = law + torch.stack([part.sum(-1) for part in given.split(LENGTHS, -1)], -1)
    for n, (start, steps) in enumerate(zip([0, 6, 7], LENGTHS, strict=True)):
        # the other sequences' steps are the same for each path of this one: take those where they are 0
        mine = (paths[:, [i for i in range(10) if not start <= i < start + steps]] == 0).all(-1)
        torch.testing.assert_close(law[mine, n].logsumexp(0), torch.zeros((), dtype=DOUBLE), rtol=0, atol=1e-12)
        evidence = joint[mine, n].logsumexp(0)
        torch.testing.assert_close(chain.evidence(table)[n], evidence, rtol=1e-12, atol=1e-12)
        best = joint[mine, n].max()
        torch.testing.assert_close(chain.posterior(table).viterbi_log_prob[n], best, rtol=1e-12, atol=1e-12)
        share = (joint[mine, n] - evidence).exp()
        pairs = torch.nn.functional.one_hot(paths[mine][:, start : start + steps], 2).to(DOUBLE)
        smoothed = chain.posterior(table).smoothed[start : start + steps]
        torch.testing.assert_close(smoothed, (share[:, None, None] * pairs).sum(0), rtol=1e-11, atol=1e-12)
        pairwise = chain.posterior(table).pairwise[start : start + steps - 1]
        moves = torch.einsum("p,pti,ptj->tij", share, pairs[:, :-1], pairs[:, 1:])
        torch.testing.assert_close(pairwise, moves, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(chain.posterior(table).expected_transitions[0], chain.posterior(table).pairwise.sum(0))
    viterbi = chain.posterior(table).viterbi
    found = chain.sequence_log_prob(viterbi) + torch.stack(
        [part.sum() for part in table[torch.arange(10), viterbi].split(LENGTHS)]
    )
    torch.testing.assert_close(found, chain.posterior(table).viterbi_log_prob, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("states", "seed"), [(2, 0), (2, 1), (3, 2)])
def test_ranked_paths_and_entropy_are_those_of_all_paths(form, states, seed):
    """The 12 best of each sequence in order, the most accurate possible one, and the entropy, of four and two steps."""
    lengths = [4, 2]
    chain = replace_lengths(random_chain(states=states, seed=seed, **FORMS[form]), lengths)
    table = torch.randn(4, states, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    table[1, 0] = -torch.inf
    index = np.array([0, 1, 2, 1, 3, 0])
    posterior = chain.posterior(table, index)
    paths, log_prob = posterior.k_best(12)
    for n, (start, steps) in enumerate(zip([0, 4], lengths, strict=True)):
        alone = replace_lengths(chain, [steps])
        every = torch.tensor(list(itertools.product(range(states), repeat=steps)))
        rows = table[torch.from_numpy(index)[start : start + steps]]
        joint = alone.sequence_log_prob(every)[:, 0] + rows[torch.arange(steps), every].sum(1)
        best, order = joint.sort(descending=True, stable=True)
        possible = int((best > -torch.inf).sum())
        count = min(12, possible)
        torch.testing.assert_close(log_prob[:count, n], best[:count], rtol=1e-11, atol=1e-11)
        assert torch.equal(paths[:count, start : start + steps], every[order[:count]])
        assert (paths[count:, start : start + steps] == -1).all() and torch.isneginf(log_prob[count:, n]).all()
        share = joint.softmax(0)
        entropy = torch.special.entr(share).sum()
        torch.testing.assert_close(posterior.entropy[n], entropy, rtol=1e-10, atol=1e-11)
        smoothed = torch.nn.functional.one_hot(every, states).to(DOUBLE).mul(share[:, None, None]).sum(0)
        right = torch.where(share > 0, smoothed[torch.arange(steps), every].sum(1), -torch.inf)
        assert torch.equal(posterior.most_accurate[start : start + steps], every[right.argmax()])


def replace_lengths(chain: SemiMarkovChain, lengths: list[int]) -> SemiMarkovChain:
    """The same law of other sequences, unweighted."""
    laws = chain.log_initial, chain.log_transition, chain.log_duration, chain.log_stay, chain.log_leave
    return SemiMarkovChain.of_logarithms(laws, chain.in_progress, torch.tensor(lengths), None)


def test_draws_are_ranked_each_by_itself():
    chain = random_chain(draws=2, in_progress=True)
    table = torch.randn(2, 10, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    posterior = chain.posterior(table)
    paths, log_prob = posterior.k_best(2)
    assert paths.shape == (2, 2, 10) and log_prob.shape == (2, 2, 3)
    torch.testing.assert_close(paths[:, 0], posterior.viterbi)
    torch.testing.assert_close(log_prob[:, 0], posterior.viterbi_log_prob, rtol=1e-11, atol=1e-11)


def test_too_many_ages_to_rank():
    even, swap = torch.full((2,), 0.5, dtype=DOUBLE), torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=DOUBLE)
    durations = torch.full((2, 5000), 1 / 5000, dtype=DOUBLE)
    posterior = SemiMarkovChain(even, swap, durations, 10).posterior(torch.zeros(10, 2, dtype=DOUBLE))
    with pytest.raises(ModelError, match="moves between ages .* got 2 states of 5000 ages over 10 rows; use sample"):
        posterior.k_best(2)


def test_geometric_durations_are_a_markov_chain():
    generator = np.random.default_rng(0)
    matrix = torch.tensor(generator.dirichlet(np.ones(3), 3))
    stay = matrix.diagonal()
    jumps = (matrix - stay.diag()) / (1.0 - stay).unsqueeze(-1)
    initial, lengths = torch.tensor(generator.dirichlet(np.ones(3))), [300, 1, 40]
    ordinary = MarkovChain(initial, matrix, lengths)
    table = torch.tensor(generator.normal(size=(341, 3)))
    path = ordinary.sample()
    # written with one entry and a tail, with ten and a tail, and begun in progress: geometric stays have no memory
    spread = stay.unsqueeze(-1) ** torch.arange(10, dtype=DOUBLE) * (1.0 - stay).unsqueeze(-1)
    spread[:, -1] = stay**9
    for law, in_progress in ((torch.ones(3, 1, dtype=DOUBLE), False), (spread, False), (spread, True)):
        chain = SemiMarkovChain(initial, jumps, law, lengths, stay=stay, in_progress=in_progress)
        found, expected = chain.posterior(table), ordinary.posterior(table)
        torch.testing.assert_close(chain.log_prob(path), ordinary.log_prob(path), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found.log_evidence, expected.log_evidence, rtol=1e-12, atol=1e-12)
        for name in ("filtered", "smoothed", "predictive_log_prob", "pairwise", "expected_transitions"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-10, atol=1e-11)
        assert torch.equal(found.viterbi, expected.viterbi)
        torch.testing.assert_close(chain.mean_duration, 1.0 / (1.0 - stay), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("form", FORMS)
def test_evidence_is_twice_differentiable(form):
    chain = random_chain(**FORMS[form])
    logits = [torch.randn(2, dtype=DOUBLE), torch.randn(2, FORMS[form].get("longest", 3), dtype=DOUBLE)]
    logits += [torch.randn(2, dtype=DOUBLE), torch.randn(4, 2, dtype=DOUBLE)]
    index, swap = torch.arange(10) % 4, torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=DOUBLE)

    def evidence(initial, duration, stay, table):
        free = SemiMarkovChain(
            initial.softmax(-1),
            swap,
            duration.softmax(-1),
            LENGTHS,
            stay=stay.sigmoid() if FORMS[form].get("tail", True) else None,
            in_progress=chain.in_progress,
        )
        return free.evidence(table, index)

    inputs = [x.requires_grad_() for x in logits]
    assert torch.autograd.gradcheck(evidence, inputs)
    assert torch.autograd.gradgradcheck(evidence, inputs)


def test_the_gradient_is_what_is_expected():
    chain = random_chain(states=3, in_progress=True)
    table = torch.randn(4, 3, dtype=DOUBLE, requires_grad=True)
    index = np.arange(10) % 4
    weights = torch.tensor([2.0, 0.0, 1.5], dtype=DOUBLE)
    (gradient,) = torch.autograd.grad((chain.evidence(table, index) * weights).sum(), table)
    counts = chain.expected(table.detach(), index, weights)
    torch.testing.assert_close(counts.emission, gradient, rtol=1e-12, atol=1e-13)
    combined = chain.expected(table.detach(), np.eye(4)[index], weights)
    torch.testing.assert_close(combined.emission, gradient, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(combined.moves.first, counts.moves.first, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(counts.initial.sum(), weights.sum(), rtol=1e-12, atol=0.0)
    assert torch.isfinite(chain.complete_log_prob(counts))


def test_draws_of_parameters_are_batch_dims():
    chain = random_chain(draws=3, in_progress=True)
    assert chain.batch_shape == (3, 1)
    assert chain.sample().shape == (3, 10)
    assert chain.sample((2,)).shape == (2, 3, 10)
    table = torch.randn(3, 10, 2, dtype=DOUBLE)
    evidence, decoded = chain.evidence(table), chain.posterior(table)
    assert decoded.viterbi.shape == (3, 10)
    path = chain.sample()
    for draw in range(3):
        one = SemiMarkovChain.of_logarithms(
            tuple(x[draw, 0] for x in (chain.log_initial, chain.log_transition, chain.log_duration))
            + (chain.log_stay[draw, 0], chain.log_leave[draw, 0]),
            True,
            chain.lengths,
            chain.weights,
        )
        torch.testing.assert_close(evidence[draw], one.evidence(table[draw]), rtol=1e-13, atol=1e-13)
        assert torch.equal(decoded.viterbi[draw], one.posterior(table[draw]).viterbi)
        torch.testing.assert_close(chain.log_prob(path)[draw, 0], one.log_prob(path[draw]), rtol=1e-13, atol=1e-13)
    assert chain.expand((5, 3, 1)).sample().shape == (5, 3, 10)


def test_samples_are_possible_and_have_the_stationary_share():
    pyro.set_rng_seed(0)
    law = torch.tensor([[0.0, 0.0, 1.0], [0.2, 0.8, 0.0]], dtype=DOUBLE)
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=DOUBLE)
    share = torch.tensor([3.0, 1.8], dtype=DOUBLE) / 4.8
    chain = SemiMarkovChain(share, swap, law, [5] * 20_000, in_progress=True)
    paths = chain.sample().reshape(-1, 5)
    assert torch.isfinite(chain.sequence_log_prob(paths.reshape(-1))).all()
    # begun in progress from its stationary law, the chain is stationary: every step has the same share of state 0;
    # 20,000 draws have a standard deviation of 0.0034
    torch.testing.assert_close((paths == 0).double().mean(0), share[:1].expand(5), rtol=0.0, atol=0.015)


def test_segments_of_the_best_path():
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=DOUBLE)
    even = torch.full((2,), 0.5, dtype=DOUBLE)
    chain = SemiMarkovChain(even, swap, torch.full((2, 4), 0.25, dtype=DOUBLE), [7, 3])
    known = torch.tensor([0, 0, 0, 1, 1, 0, 0, 0, 1, 1])
    found = chain.posterior(10.0 * torch.nn.functional.one_hot(known, 2).to(DOUBLE))
    assert found.segments().to_numpy().tolist() == [
        [0, 0, 3, 0],
        [0, 3, 5, 1],
        [0, 5, 7, 0],
        [1, 0, 1, 0],
        [1, 1, 3, 1],
    ]
    torch.testing.assert_close(found.expected_durations.sum(), torch.tensor(5.0, dtype=DOUBLE), rtol=1e-3, atol=0.0)
    fixed = found.given(torch.tensor([0] * 4 + [-1] * 6))
    assert fixed.viterbi[:4].tolist() == [0] * 4
    with pytest.raises(ModelError, match="must be of one path"):
        found.segments(found.sample(2, seed=0))
    with pytest.raises(DataError, match="probability zero at step 4"):
        _ = found.given(torch.tensor([0] * 5 + [-1] * 5)).viterbi  # five steps, where four is the most


def test_a_program_with_segments_is_fitted_by_autodelta():
    """Rates, durations and all: the gradient of the marginalised program is that of the sum over segmentations."""
    pyro.set_rng_seed(0)
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=DOUBLE)
    durations = torch.tensor([[0.0, 0.0, 0.1, 0.9], [0.6, 0.4, 0.0, 0.0]], dtype=DOUBLE)
    even = torch.full((2,), 0.5, dtype=DOUBLE)
    state = SemiMarkovChain(even, swap, durations, 400).sample()
    data = torch.distributions.Poisson(torch.tensor([1.0, 8.0], dtype=DOUBLE)[state]).sample()

    def program():
        rate = pyro.sample("rate", dist.Gamma(torch.tensor([2.0, 8.0], dtype=DOUBLE), 1.0).to_event(1))
        law = pyro.sample("law", dist.Dirichlet(torch.full((2, 4), 1.1, dtype=DOUBLE)).to_event(1))
        path = pyro.sample("state", SemiMarkovChain(even, swap, law, len(data)))
        with pyro.plate("step", len(data)):
            pyro.sample("y", dist.Poisson(rate[path]), obs=data)

    marginal = marginalize(program)
    guide = AutoDelta(marginal)
    svi = SVI(marginal, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())  # pyright: ignore
    losses = [svi.step() for _ in range(250)]
    assert losses[-1] < losses[0]
    found = guide.median()
    torch.testing.assert_close(found["rate"], torch.tensor([1.0, 8.0], dtype=DOUBLE), rtol=0.2, atol=0.0)
    assert found["law"][0, 2:].sum() > 0.9
    decoded = posterior(program, found)()["state"]
    assert (decoded.viterbi == state).double().mean() > 0.95


def test_a_short_program_is_the_sum_over_segmentations():
    chain, data = random_chain(states=3), torch.tensor([0.0, 2, 1, 5, 0, 3, 1, 2, 2, 0], dtype=DOUBLE)
    rate = torch.tensor([0.5, 2.0, 4.0], dtype=DOUBLE)

    def program():
        path = pyro.sample("state", chain)
        with pyro.plate("step", 10):
            pyro.sample("y", dist.Poisson(rate[path]), obs=data)

    total = pyro.poutine.trace(marginalize(program)).get_trace().log_prob_sum()
    paths = every_path(chain)
    joint = chain.sequence_log_prob(paths)
    scores = dist.Poisson(rate).log_prob(data.unsqueeze(-1))[torch.arange(10), paths]
    joint = joint + torch.stack([part.sum(-1) for part in scores.split(LENGTHS, -1)], -1)
    # a sequence's paths come once for each path of the others
    extra = torch.tensor([3.0**4, 3.0**9, 3.0**7], dtype=DOUBLE).log()
    expected = ((joint.logsumexp(0) - extra) * chain.weights).sum()
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"initial": torch.ones(1, dtype=DOUBLE)}, "at least two states"),
        ({"transition": torch.full((2, 2), 0.5, dtype=DOUBLE)}, "zeros on its diagonal"),
        ({"transition": torch.eye(3, dtype=DOUBLE)}, r"transition must end in \(2, 2\)"),
        ({"duration": torch.full((2, 3), 0.5, dtype=DOUBLE)}, "rows sum to 1"),
        ({"stay": torch.ones(2, dtype=DOUBLE)}, "below 1"),
        ({"lengths": [2, 0]}, "lengths must be at least 1"),
        ({"weights": torch.ones(3, dtype=DOUBLE)}, "one weight a sequence"),
        ({"duration": torch.full((3, 2, 2), 0.5, dtype=DOUBLE)}, "end in a dim of size 1"),
    ],
)
def test_what_makes_no_chain_is_refused(change, message):
    good = {
        "initial": torch.full((2,), 0.5, dtype=DOUBLE),
        "transition": torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=DOUBLE),
        "duration": torch.full((2, 2), 0.5, dtype=DOUBLE),
        "lengths": [2, 2],
    }
    with pytest.raises(ModelError, match=message):
        SemiMarkovChain(**(good | change), validate_args=True)
