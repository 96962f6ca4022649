"""Forward filtering, backward sampling: frequencies of whole paths against the sum over all of them, at any range."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from probseq import kernels
from probseq.kernels.jit import entry
from probseq.kernels.sampled_paths import filter_logs, filter_scaled, relate, sample_logs, sample_scaled

SCALED, LOGS = 0, 1


@entry
def walk(rng, way, law, A, log_table, index, offsets, likelihoods, tops, room, messages, paths):
    """Evidence of all sequences and paths (S, T), by one way or the other."""
    relate(log_table, room, likelihoods, tops)
    evidence = 0.0
    for n in range(offsets.size - 1):
        start, end = offsets[n], offsets[n + 1]
        if way == 0:
            evidence += filter_scaled(law, A, likelihoods, tops, index, start, end, messages)
        else:
            evidence += filter_logs(law, A, log_table, index, start, end, messages)
        for s in range(paths.shape[0]):
            if way == 0:
                sample_scaled(rng, A, start, end, messages, paths[s])
            else:
                sample_logs(rng, A, start, end, messages, paths[s])
    return evidence


def run(way: int, law, A, log_table, index, offsets, draws: int = 1) -> tuple[float, np.ndarray]:
    K, R = log_table.shape
    paths = np.zeros((draws, len(index)), dtype=np.int64)
    room = np.zeros(-(-K * R // 8) * 8)
    rooms = np.empty((K, R)), np.empty(R), room, np.empty((len(index), K))
    numbers = [np.asarray(x, dtype=np.float64) for x in (law, A, log_table)]
    steps = np.asarray(index, dtype=np.int64), np.asarray(offsets, dtype=np.int64)
    rng = np.random.default_rng(5)
    return walk(rng, way, *numbers, *steps, *rooms, paths), paths


def log(x) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(x, dtype=np.float64))


LAW = [0.5, 0.0, 0.5]
MOVES = [[0.6, 0.4, 0.0], [0.0, 0.7, 0.3], [0.2, 0.3, 0.5]]
TABLE = np.array([[-1.0, 0.5, 0.0, 0.0], [0.3, -2.0, 0.0, -np.inf], [0.0, 0.4, 0.0, -np.inf]])
"""Rows 0 and 1 were measured, row 2 is missing, row 3 is missing with state 0 known."""
INDEX, OFFSETS = [0, 2, 1, 1, 3, 0], [0, 4, 6]


@pytest.mark.parametrize("way", [SCALED, LOGS], ids=["scaled", "logs"])
def test_frequencies_are_those_of_the_enumerated_posterior(way: int) -> None:
    """Ragged, with structural zeros, a missing step and a label; chi-square over paths expected five times or more."""
    draws = 40_000
    evidence, drawn = run(way, LAW, MOVES, TABLE, INDEX, OFFSETS, draws)
    scores = {}
    for path in itertools.product(range(3), repeat=len(INDEX)):
        total = sum(TABLE[z, row] for z, row in zip(path, INDEX, strict=True))
        for start, end in itertools.pairwise(OFFSETS):
            total += log(LAW)[path[start]] + sum(log(MOVES)[i, j] for i, j in itertools.pairwise(path[start:end]))
        scores[path] = total
    whole = logsumexp(list(scores.values()))
    assert evidence == pytest.approx(whole, abs=1e-12)
    found = {tuple(path): int(count) for path, count in zip(*np.unique(drawn, axis=0, return_counts=True), strict=True)}
    assert all(scores[path] > -np.inf for path in found)
    expected = {path: draws * np.exp(score - whole) for path, score in scores.items() if score > -np.inf}
    common = [path for path, count in expected.items() if count >= 5]
    observed = np.array([found.get(path, 0) for path in common] + [draws - sum(found.get(path, 0) for path in common)])
    wanted = np.array([expected[path] for path in common] + [draws - sum(expected[path] for path in common)])
    assert len(common) > 20
    assert stats.chisquare(observed, wanted).pvalue > 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_evidence_is_that_of_the_recursions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    states, rows, offsets = 2 + seed, 7, np.array([0, 40, 41, 200])
    law, A = rng.dirichlet(np.ones(states)), rng.dirichlet(np.ones(states), size=states)
    table, index = rng.normal(scale=3.0, size=(states, rows)), rng.integers(rows, size=200)
    wanted = kernels.evidence(log(law)[None, None], log(A)[None, None], table.T[None], offsets, index).sum()
    for way in (SCALED, LOGS):
        assert run(way, law, A, table, index, offsets)[0] == pytest.approx(wanted, rel=1e-13)


@pytest.mark.parametrize("swing", [1.0, 30.0, 200.0, 1000.0, 5000.0])
def test_a_state_lost_by_far_may_come_back(swing: float) -> None:
    """Left to right, the data first against moving on and then more for having moved: one path has all the mass.

    Where the scaled way cannot vouch for its numbers it must say so, and the logarithms must be right.
    """
    moves = [[0.9, 0.1, 0.0], [0.0, 0.9, 0.1], [0.0, 0.0, 1.0]]
    table = np.zeros((3, 30))
    table[1, :10], table[1, 10:20], table[1, 20:] = -swing, 2.5 * swing, -swing
    law, index, offsets = [0.4, 0.5, 0.1], np.arange(30), [0, 30]
    arguments = (log(law)[None, None], log(moves)[None, None], table.T[None], offsets)
    wanted = float(kernels.evidence(*arguments)[0, 0])
    best = np.asarray(kernels.viterbi(*arguments)[0]).reshape(-1)
    found, paths = run(LOGS, law, moves, table, index, offsets, 200)
    assert found == pytest.approx(wanted, rel=1e-12)
    assert (np.diff(paths) >= 0).all()
    if swing >= 30:
        assert (paths == best).all()
    scaled, paths = run(SCALED, law, moves, table, index, offsets, 200)
    assert np.isnan(scaled) or scaled == pytest.approx(wanted, rel=1e-12)
    if swing == 1000.0:
        assert np.isnan(scaled)
