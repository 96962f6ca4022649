"""Entropy, change points, and states without their own step, against all K^T paths written out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from probseq import MarkovChain
from probseq.chains import SemiMarkovChain, StatePosterior
from probseq.chains.digits import Digit

# Sums of at most 3^7 positive terms, each a product of a dozen factors.
EXACT = {"rtol": 1e-10, "atol": 1e-12}
LENGTHS = [4, 1, 2]
SPANS = [slice(0, 4), slice(4, 5), slice(5, 7)]
PATHS = torch.tensor(list(itertools.product(range(3), repeat=7)))


@dataclass(frozen=True)
class Written:
    """A posterior, and its law written out: log p(path) (P,) and log p(x_t | z_t) of each step (T, P)."""

    posterior: StatePosterior
    prior: Tensor
    scores: Tensor

    def chance(self, kept: list[int] | None = None) -> Tensor:
        """(P,) p(path | x of the steps that are kept)."""
        return (self.prior + self.scores[list(range(7)) if kept is None else kept].sum(0)).softmax(-1)

    def law(self, step: int, kept: list[int]) -> Tensor:
        """(K,) of the state of one step."""
        return torch.stack([self.chance(kept)[PATHS[:, step] == k].sum() for k in range(3)])


def written(seed: int, indexed: bool, zeros: bool, durations: bool = False, gap: float = 1.0) -> Written:
    """Three states, ragged; time-varying matrices or durations; a row a step or fewer; structural zeros."""
    generator = torch.Generator().manual_seed(seed)

    def law(*shape: int) -> Tensor:
        weights = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.05
        return weights / weights.sum(-1, keepdim=True)

    transition = law(2, 3, 3)
    if zeros:
        transition = transition * (1.0 - torch.eye(3, dtype=torch.float64).roll(1, 1))  # no move 0-1, 1-2, 2-0
    if durations:
        transition = transition[0] * (1.0 - torch.eye(3, dtype=torch.float64))
    transition = transition / transition.sum(-1, keepdim=True)
    if durations:
        chain = SemiMarkovChain(law(3), transition, law(3, 3), LENGTHS)
    else:
        chain = MarkovChain(law(3), transition, LENGTHS, transition_index=torch.randint(2, (7,), generator=generator))
    rows = torch.randint(4, (7,), generator=generator) if indexed else torch.arange(7)
    table = gap * torch.randn((4 if indexed else 7, 3), generator=generator, dtype=torch.float64)
    if zeros:
        table[1, 2] = -torch.inf
    index = rows.numpy().astype(np.uint8) if indexed else None
    scores = torch.stack([table[rows[t], PATHS[:, t]] for t in range(7)])
    return Written(chain.posterior(table, index), chain.log_prob(PATHS), scores)


CASES = list(itertools.product((0, 1), (True, False), (True, False)))


@pytest.mark.parametrize(("seed", "indexed", "zeros"), CASES)
def test_entropy_of_paths(seed, indexed, zeros):
    """-sum p log p over the distinct paths of each sequence, and log p of the likeliest."""
    case = written(seed, indexed, zeros)
    for n, span in enumerate(SPANS):
        own, number = PATHS[:, span].unique(dim=0, return_inverse=True)
        law = torch.zeros(len(own), dtype=torch.float64).index_add(0, number, case.chance())
        torch.testing.assert_close(case.posterior.entropy[n], torch.special.entr(law).sum(), **EXACT)
        torch.testing.assert_close(case.posterior.viterbi_log_probability[n], law.amax().log(), **EXACT)
    steps = torch.stack([torch.special.entr(case.law(t, list(range(7)))).sum() for t in range(7)])
    torch.testing.assert_close(case.posterior.step_entropy, steps, **EXACT)


@pytest.mark.parametrize("durations", [False, True])
@pytest.mark.parametrize(("seed", "indexed", "zeros"), CASES)
def test_change_points(seed, indexed, zeros, durations):
    case = written(seed, indexed, zeros and not durations, durations)
    expected = torch.zeros(7, dtype=torch.float64)
    for t in (0, 1, 2, 5):
        expected[t] = case.chance()[PATHS[:, t] != PATHS[:, t + 1]].sum()
    torch.testing.assert_close(case.posterior.change_probability, expected, **EXACT)


@pytest.mark.parametrize("gap", [1.0, 300.0])
@pytest.mark.parametrize("durations", [False, True])
@pytest.mark.parametrize(("seed", "indexed", "zeros"), CASES)
def test_states_without_their_own_step(seed, indexed, zeros, durations, gap):
    """Also where the left-out step makes a state impossible, or all but (a gap of hundreds of nats)."""
    case = written(seed, indexed, zeros, durations, gap)
    for t in range(7):
        end = next(span.stop for span in SPANS if span.start <= t < span.stop)
        others = [s for s in range(7) if s != t]
        before = [s for s in range(7) if not t <= s < end]
        torch.testing.assert_close(case.posterior.cavity[t], case.law(t, others), **EXACT)
        torch.testing.assert_close(case.posterior.predicted[t], case.law(t, before), **EXACT)


def test_filters_that_never_meet():
    """A class that cannot change, of evidence that swings by 2,000 nats: the second half alone decides, or nothing."""
    eye, half = torch.eye(2, dtype=torch.float64), torch.full((2,), 0.5, dtype=torch.float64)
    table = torch.tensor([[0.0, -2000.0], [0.0, 0.0], [-2000.0, 0.0]], dtype=torch.float64)
    found = MarkovChain(half, eye, 3).posterior(table)
    torch.testing.assert_close(found.cavity[1], half)
    torch.testing.assert_close(found.cavity[0], torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(found.entropy, torch.tensor([2.0], dtype=torch.float64).log())
    assert found.change_probability.abs().max() < 1e-15


def test_draws_are_leading_dims_and_parts_answer_for_themselves():
    """Two draws are two posteriors; of a code of two states each part has its own changes, and one joint entropy."""
    generator = torch.Generator().manual_seed(5)
    laws = torch.rand((2, 1, 4), generator=generator, dtype=torch.float64).softmax(-1)
    moves = (3 * torch.rand((2, 1, 4, 4), generator=generator, dtype=torch.float64)).softmax(-1)
    table = torch.randn((2, 5, 4), generator=generator, dtype=torch.float64)
    both = MarkovChain(laws, moves, [3, 2]).posterior(table)
    part = both.of(Digit(2, 2))
    for draw in range(2):
        one = MarkovChain(laws[draw, 0], moves[draw, 0], [3, 2]).posterior(table[draw])
        for name in ("entropy", "change_probability", "cavity", "predicted"):
            torch.testing.assert_close(getattr(both, name)[draw], getattr(one, name), **EXACT)
    assert part.cavity.shape == (2, 5, 2)
    torch.testing.assert_close(part.entropy, both.entropy)
    torch.testing.assert_close(part.change_probability, _changes(part.pairwise), **EXACT)


def _changes(pairs: Tensor) -> Tensor:
    return pairs.sum((-2, -1)) - pairs.diagonal(dim1=-2, dim2=-1).sum(-1)
