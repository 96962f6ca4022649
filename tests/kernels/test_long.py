"""Long sequences: two threads that meet in the middle, chunks of sequences, and Viterbi paths in segments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probseq import kernels
from probseq.kernels import decoding, schedule, threads


@pytest.fixture
def workers(monkeypatch):
    """Set the number of threads, and let it pay for short sequences too."""

    def set_workers(count: int) -> None:
        monkeypatch.setattr(schedule, "thread_count", lambda: count)
        monkeypatch.setattr(schedule, "WORTH_A_THREAD", 300)

    return set_workers


def all_counts(problem, weights):
    counts = kernels.expected_counts(*problem.arguments, weights=weights)
    return counts.evidence, counts.initial, counts.transition, counts.emission


@pytest.mark.parametrize(
    ("states", "lengths", "case"),
    [
        (2, [5000], {"rows": 4, "index_dtype": np.uint8}),
        (3, [2561], {}),
        (3, [2560], {"matrices": 3}),
        (4, [700, 2000, 10, 900], {"rows": 30, "matrices": 2, "own_initial": True}),
        (2, [900, 3, 40, 2000, 1200, 80] * 3, {"draws": 3}),
        (40, [1500], {"matrices": 2}),
        (3, [5000], {"zeros": 0.2}),
    ],
)
def test_threads_change_nothing(make_problem, workers, states, lengths, case):
    problem = make_problem(0, states, lengths, **case)
    problem.log_table[np.isinf(problem.log_table)] = -3.0
    weights = np.random.default_rng(1).gamma(1.0, size=(problem.log_table.shape[0], len(lengths)))
    uniforms = np.random.default_rng(2).random((problem.log_table.shape[0], 2, problem.offsets[-1]))
    results = []
    for count in (1, 2, 4):
        workers(count)
        arrays = [*all_counts(problem, weights), kernels.evidence(*problem.arguments)]
        arrays += [*kernels.filtered(*problem.arguments), *kernels.viterbi(*problem.arguments)]
        arrays += [kernels.smoothed(*problem.arguments)]
        results.append((arrays, kernels.sample_paths(*problem.arguments, uniforms=uniforms)))
    for arrays, paths in results[1:]:
        np.testing.assert_array_equal(paths, results[0][1])
        for value, expected in zip(arrays, results[0][0], strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12)


def test_an_impossible_step_or_nan_in_either_half(make_problem, workers):
    workers(2)
    for step in (10, 2700):
        problem = make_problem(0, 2, [3000])
        problem.log_table[0, step] = -np.inf
        counts = kernels.expected_counts(*problem.arguments)
        assert counts.evidence == -np.inf and (counts.transition == 0).all() and (counts.emission == 0).all()
        assert kernels.evidence(*problem.arguments) == -np.inf
        problem.log_table[0, step] = np.nan
        with pytest.raises(ValueError, match="log_table must hold"):
            kernels.expected_counts(*problem.arguments)


def test_threads_follow_torch():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert threads.thread_count() == 1
    finally:
        torch.set_num_threads(before)
    assert threads.run([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]


@pytest.mark.parametrize("states", [2, 5, 40])
def test_viterbi_in_segments_is_viterbi(make_problem, monkeypatch, states):
    problem = make_problem(3, states, [2000, 3, 600], rows=20, matrices=2, zeros=0.1)
    paths, log_prob = kernels.viterbi(*problem.arguments)
    monkeypatch.setattr(decoding, "ROOM", 1)
    segmented, same = kernels.viterbi(*problem.arguments)
    np.testing.assert_array_equal(segmented, paths)
    np.testing.assert_allclose(same, log_prob, rtol=1e-13)
