"""Viterbi runs are the Viterbi path, run-length coded, whatever the room for back-pointers."""

import numpy as np
import pytest

from probseq import kernels
from probseq.kernels import decoding
from probseq.kernels.runs import viterbi_runs


@pytest.mark.parametrize("states", [1, 2, 5, 40, 300])
@pytest.mark.parametrize("room", [1 << 12, 1 << 28])
def test_runs_are_the_path(make_problem, monkeypatch, states, room) -> None:
    monkeypatch.setattr(decoding, "ROOM", room)
    for seed, length, zeros in ((0, 1, 0.0), (1, 3001, 0.0), (2, 3001, 0.2)):
        problem = make_problem(seed, states, [length], rows=7, matrices=3 if seed else None, zeros=zeros)
        starts, values, log_prob = viterbi_runs(*problem.arguments)
        paths, expected = kernels.viterbi(*problem.arguments)
        assert log_prob == expected[0, 0]
        if np.isneginf(log_prob):
            assert len(starts) == 0
            continue
        assert starts[0] == 0 and (np.diff(values) != 0).all()
        assert np.repeat(values, np.diff(np.append(starts, length))).tolist() == paths[0].tolist()


def test_more_runs_than_there_was_room_for(make_problem) -> None:
    problem = make_problem(3, 3, [20_000], rows=50, spread=20.0)
    starts, values, _ = viterbi_runs(*problem.arguments)
    assert len(starts) > 8192
    path = kernels.viterbi(*problem.arguments)[0][0]
    assert np.repeat(values, np.diff(np.append(starts, 20_000))).tolist() == path.tolist()


def test_one_sequence_only(make_problem) -> None:
    with pytest.raises(ValueError, match="runs must be of one sequence"):
        viterbi_runs(*make_problem(0, 2, [3, 4]).arguments)
    bad = make_problem(0, 2, [3])
    bad.log_transition[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="log_transition must hold log-probabilities"):
        viterbi_runs(*bad.arguments)
