"""Decoding with its questions - the k best paths, the most accurate one, given knowledge - against all K^T paths."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from probseq import MarkovChain
from probseq.chains import StatePosterior
from probseq.errors import DataError

# Sums of at most 3^6 positive terms, each a product of a dozen factors.
EXACT = {"rtol": 1e-10, "atol": 1e-12}
LENGTHS = [4, 1, 2]


@dataclass(frozen=True)
class Decoded:
    """A posterior, and its law written out: every path of all sequences with its log joint under each draw."""

    posterior: StatePosterior
    paths: Tensor  # (P, T)
    joint: Tensor  # (B, P) nats

    def best(self, score: Tensor) -> Tensor:
        """(B, T) the path of the highest score (B, P)."""
        return self.paths[score.argmax(-1)]

    def smoothed(self, keep: Tensor | None = None) -> Tensor:
        """(B, T, K) from the paths, of those only that are kept."""
        joint = self.joint if keep is None else torch.where(keep, self.joint, -torch.inf)
        chance = joint.softmax(-1)
        return torch.stack([(chance @ (self.paths == k).double()) for k in range(3)], -1)


def problem(seed: int, indexed: bool, zeros: bool, draws: int = 2) -> Decoded:
    """Three states, ragged, time-varying matrices; a shared index of rows, or a row a step; structural zeros."""
    generator = torch.Generator().manual_seed(seed)
    steps = sum(LENGTHS)

    def law(*shape: int) -> Tensor:
        weights = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.05
        return weights / weights.sum(-1, keepdim=True)

    initial, transition = law(draws, 1, 3), law(draws, 1, 2, 3, 3)
    if zeros:
        transition = transition * (1.0 - torch.eye(3, dtype=torch.float64).roll(1, 1))  # no move 0-1, 1-2, 2-0
        transition = transition / transition.sum(-1, keepdim=True)
    moves = torch.randint(2, (steps,), generator=generator)
    rows = torch.randint(4, (steps,), generator=generator) if indexed else torch.arange(steps)
    table = torch.randn((draws, 4 if indexed else steps, 3), generator=generator, dtype=torch.float64)
    if zeros:
        table[:, 1, 2] = -torch.inf
    chain = MarkovChain(initial, transition, LENGTHS, transition_index=moves)
    index = rows.numpy().astype(np.uint8) if indexed else None
    paths = torch.tensor(list(itertools.product(range(3), repeat=steps)))
    joint = torch.zeros((draws, len(paths)), dtype=torch.float64)
    for t in range(steps):
        first = t in (0, 4, 5)
        joint += initial[:, 0, paths[:, t]].log() if first else 0.0
        joint += 0.0 if first else transition[:, 0, moves[t - 1], paths[:, t - 1], paths[:, t]].log()
        joint += table[:, rows[t], paths[:, t]]
    return Decoded(chain.posterior(table, index), paths, joint)


CASES = list(itertools.product((0, 1), (True, False), (True, False)))


@pytest.mark.parametrize(("seed", "indexed", "zeros"), CASES)
def test_k_best_paths(seed, indexed, zeros):
    """Rank by rank for each sequence: the values of its own paths, sorted, and each path's own value."""
    decoded = problem(seed, indexed, zeros)
    paths, log_prob = decoded.posterior.k_best(12)
    assert paths.shape == (2, 12, 7) and log_prob.shape == (2, 12, 3)
    torch.testing.assert_close(paths[:, 0], decoded.posterior.viterbi)
    torch.testing.assert_close(log_prob[:, 0], decoded.posterior.viterbi_log_prob, **EXACT)
    value = {tuple(p): j for p, j in zip(decoded.paths.tolist(), decoded.joint.T.tolist(), strict=True)}
    best = paths[0, 0].tolist()
    for n, (start, end) in enumerate(itertools.pairwise([0, 4, 5, 7])):
        others = float(log_prob[0, 0].sum() - log_prob[0, 0, n])
        mine = {p[start:end]: v[0] - others for p, v in value.items() if _same_outside(p, best, start, end)}
        ranked = sorted((v for v in mine.values() if v > -np.inf), reverse=True)[:12]
        found = log_prob[0, :, n].tolist()
        assert found[: len(ranked)] == pytest.approx(ranked, abs=1e-10)
        assert found[len(ranked) :] == [-np.inf] * (12 - len(ranked))
        for path, total in zip(paths[0, : len(ranked), start:end].tolist(), found, strict=False):
            assert mine[tuple(path)] == pytest.approx(total, abs=1e-10)
        assert (paths[0, len(ranked) :, start:end] == -1).all()


def _same_outside(path: tuple[int, ...], other: list[int], start: int, end: int) -> bool:
    return list(path[:start]) == other[:start] and list(path[end:]) == other[end:]


@pytest.mark.parametrize(("seed", "indexed", "zeros"), CASES)
def test_most_accurate_path(seed, indexed, zeros):
    """The possible path with the highest sum of smoothed probabilities; `local` where there is nothing impossible."""
    decoded = problem(seed, indexed, zeros)
    gamma = decoded.smoothed()
    right = gamma.gather(-1, decoded.paths.T.expand(2, 7, len(decoded.paths))).sum(1)
    expected = decoded.best(torch.where(decoded.joint > -torch.inf, right, -torch.inf))
    torch.testing.assert_close(decoded.posterior.most_accurate, expected)
    if not zeros:
        torch.testing.assert_close(decoded.posterior.most_accurate, decoded.posterior.local)


def test_local_may_be_impossible_where_the_most_accurate_path_is_not():
    """Three lots of 0.4, 0.3 and 0.3: alone each step is likeliest in a state that the next cannot follow."""
    initial = torch.tensor([0.4, 0.3, 0.3], dtype=torch.float64)
    transition = torch.tensor([[0.0, 0.5, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    table = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    found = MarkovChain(initial, transition.roll(1, 1), 2).posterior(table)
    # 0 -> {0, 1} with 0.2 each, 1 -> 2 with 0.3, 2 -> 0 with 0.3: alone 0 (0.4), then 0 (0.5).
    assert found.local.tolist() == [0, 0] == found.most_accurate.tolist()
    assert found.viterbi.tolist() in ([1, 2], [2, 0])
    blocked = MarkovChain(initial, torch.tensor([[0, 0.5, 0.5], [1, 0, 0], [1, 0, 0]]).double(), 2).posterior(table)
    assert blocked.local.tolist() == [0, 0]  # 0.4, and 0.6 in state 0 at the second step: the move 0 -> 0 is forbidden
    assert blocked.most_accurate.tolist() == [1, 0]


@pytest.mark.parametrize(("seed", "indexed", "zeros"), CASES)
def test_given_states_and_allowed_states(seed, indexed, zeros):
    """Everything that is asked of the constrained law, from the paths that keep to what is known."""
    decoded = problem(seed, indexed, zeros)
    generator = torch.Generator().manual_seed(seed + 10)
    possible = decoded.paths[(decoded.joint > -torch.inf).all(0)]
    known = possible[int(torch.randint(len(possible), (), generator=generator))].clone()
    allowed = torch.rand((7, 3), generator=generator) < 0.5
    allowed[torch.arange(7), known] = True
    known[[1, 2, 6]] = -1
    agrees = ((decoded.paths == known) | (known == -1)).all(1)
    within = allowed[torch.arange(7), decoded.paths].all(1)
    for law, keep in (
        (decoded.posterior.given(known), agrees),
        (decoded.posterior.given(allowed=allowed), within),
        (decoded.posterior.given(known.numpy(), allowed=allowed.numpy()), agrees & within),
        (decoded.posterior.given(known).given(allowed=allowed), agrees & within),
        (decoded.posterior.given({t: int(state) for t, state in enumerate(known) if state >= 0}), agrees),
    ):
        joint = torch.where(keep, decoded.joint, -torch.inf)
        chance = law.log_evidence.sum(-1) - decoded.posterior.log_evidence.sum(-1)
        torch.testing.assert_close(chance, joint.logsumexp(-1) - decoded.joint.logsumexp(-1), **EXACT)
        torch.testing.assert_close(law.smoothed, decoded.smoothed(keep), **EXACT)
        torch.testing.assert_close(law.viterbi, decoded.best(joint))
        torch.testing.assert_close(law.viterbi_log_prob.sum(-1), joint.amax(-1), **EXACT)
        draws = law.sample(20, seed=0)
        assert all(bool(keep[(decoded.paths == path).all(1)]) for path in draws.reshape(-1, 7))
        assert law.arguments["log_table"].shape[1] <= 7


def test_questions_of_rows_that_are_combined_by_weights():
    """Steps that combine three rows are asked as if each had a row of its own."""
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn((7, 3), generator=generator, dtype=torch.float64)
    table = torch.randn((3, 3), generator=generator, dtype=torch.float64)
    law = torch.full((3,), 1 / 3, dtype=torch.float64)
    chain = MarkovChain(law, law.expand(3, 3) * 0.4 + 0.6 * torch.eye(3).double(), LENGTHS)
    combined, plain = chain.posterior(table, weights.numpy()), chain.posterior(weights @ table)
    torch.testing.assert_close(combined.most_accurate, plain.most_accurate)
    known = torch.tensor([-1, 2, -1, 0, -1, 1, -1])
    torch.testing.assert_close(combined.given(known).smoothed, plain.given(known).smoothed, **EXACT)
    torch.testing.assert_close(combined.k_best(3), plain.k_best(3))


def test_knowledge_that_does_not_fit_is_refused():
    posterior = problem(0, True, True).posterior
    for known, message in (
        (torch.zeros(3).long(), r"one whole number a step, shape \(7,\), got int64 of shape \(3,\); .*-1"),
        (torch.zeros(7), "one whole number a step"),
        (torch.tensor([0, 0, 3, 0, 0, 0, 0]), r"must lie in 0\.\.2, .* got 3 at step 2"),
    ):
        with pytest.raises(DataError, match=message):
            posterior.given(known)
    for known, message in (
        ({7: 0}, r"whole numbers for steps 0\.\.6 \(over all sequences\), got 7"),
        ({-1: 0}, "got -1; write {2: 0} for state 0 at step 2"),
        ({1: 0, 2: 0.0}, r"got \(2, 0\.0\)"),
        ({2: -1}, "a number from 0 on, got -1 at step 2"),
        ({2: 3}, r"must lie in 0\.\.2, .* got 3 at step 2"),
    ):
        with pytest.raises(DataError, match=message):
            posterior.given(known)
    with pytest.raises(DataError, match=r"true or false for each step and state, shape \(7, 3\)"):
        posterior.given(allowed=torch.ones(7, 3))
    with pytest.raises(DataError, match="must have a state that is allowed, got none at step 2"):
        posterior.given(allowed=torch.ones(7, 3).bool().index_fill(0, torch.tensor(2), False))
    with pytest.raises(ValueError, match="count must be at least 1"):
        posterior.k_best(0)
    impossible = posterior.given(torch.tensor([0, 1, -1, -1, -1, -1, -1]))
    assert torch.isneginf(impossible.log_evidence[:, 0]).all()
    with pytest.raises(DataError, match="probability zero at step 1"):
        _ = impossible.viterbi
