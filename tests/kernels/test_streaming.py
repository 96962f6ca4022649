"""The smoother in blocks is the smoother, whatever the blocks and however improbable the data."""

import numpy as np
import pytest

from probseq import kernels
from probseq.kernels.streaming import smoothed_blocks


def joined(problem, block: int) -> np.ndarray:
    parts = list(smoothed_blocks(*problem.arguments, block=block))
    assert [start for start, _ in parts] == list(range(0, int(problem.offsets[-1]), block))
    return np.concatenate([gamma for _, gamma in parts])


@pytest.mark.parametrize("states", [1, 2, 5, 40])
@pytest.mark.parametrize("block", [1, 7, 100, 1000])
def test_blocks_are_the_smoother(make_problem, states, block) -> None:
    for seed, zeros, spread in ((1, 0.0, 2.0), (2, 0.2, 2.0), (3, 0.0, 60.0)):
        problem = make_problem(seed, states, [301], rows=7, zeros=zeros, spread=spread, index_dtype=np.uint8)
        expected = kernels.smoothed(*problem.arguments)[0]
        # each block divides by numbers that carry rounding of their own
        np.testing.assert_allclose(joined(problem, block), expected, rtol=0, atol=1e-12)


def test_the_last_step_decides_far_back(make_problem) -> None:
    """Two chains that never meet: only the last step, blocks later, says which one it was."""
    problem = make_problem(0, 4, [60], rows=3)
    problem.log_transition[...] = -np.inf
    problem.log_transition[0, 0, :2, :2] = problem.log_transition[0, 0, 2:, 2:] = np.log(0.5)
    problem.log_table[:, 2, :2] = -np.inf
    problem.emission_index[:] = np.arange(60) % 2
    problem.emission_index[-1] = 2
    gamma = joined(problem, 8)
    assert (gamma[:, :2] == 0).all()
    np.testing.assert_allclose(gamma.sum(1), 1, atol=1e-12)


def test_an_impossible_sequence_is_zero_throughout(make_problem) -> None:
    problem = make_problem(0, 2, [20], rows=3)
    problem.log_table[:, 1] = -np.inf
    problem.emission_index[10] = 1
    assert (joined(problem, 6) == 0).all()


def test_one_sequence_with_an_index_only(make_problem) -> None:
    for problem in (make_problem(0, 2, [3, 4], rows=3), make_problem(0, 2, [5]), make_problem(0, 2, [5], 2, rows=3)):
        with pytest.raises(ValueError, match="blocks must be of one sequence with an emission index"):
            next(smoothed_blocks(*problem.arguments))
