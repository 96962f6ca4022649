"""Edges and refusals: dtypes of an index, one step, no sequence, NaN, and errors that say what to change."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from probseq import kernels


def arguments(steps: int = 5, states: int = 2) -> dict:
    return {
        "log_initial": np.full((1, 1, states), -np.log(states)),
        "log_transition": np.full((1, 1, states, states), -np.log(states)),
        "log_table": np.zeros((1, steps, states)),
        "offsets": np.array([0, steps]),
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32, np.int64, ">i4"])
def test_every_integer_type_indexes_alike(make_problem, dtype):
    problem = make_problem(0, 3, [50, 9], rows=120, matrices=100)
    index, moves = (x.astype(dtype) for x in problem.arguments[4:])
    expected = kernels.expected_counts(*problem.arguments)
    result = kernels.expected_counts(*problem.arguments[:4], index, moves)
    np.testing.assert_array_equal(result.emission, expected.emission)
    np.testing.assert_array_equal(result.transition, expected.transition)


def test_read_only_and_strided_arrays_are_read(make_problem):
    problem = make_problem(0, 3, [50, 9], rows=120, matrices=100)
    expected = kernels.expected_counts(*problem.arguments)
    doubled = [np.repeat(x, 2, -1)[..., ::2] for x in problem.arguments]
    doubled[3] = problem.offsets
    for array in doubled:
        array.flags.writeable = False
    result = kernels.expected_counts(*doubled)
    np.testing.assert_array_equal(result.emission, expected.emission)


def test_an_index_past_16_bits(make_problem):
    problem = make_problem(0, 2, [100_000], rows=70_000, index_dtype=np.int32)
    dense = problem.log_table[:, problem.emission_index]
    expected = kernels.evidence(*problem.arguments[:2], dense, problem.offsets)
    np.testing.assert_allclose(kernels.evidence(*problem.arguments), expected, rtol=1e-14)


def test_no_sequence_and_an_empty_one():
    empty = arguments(0)
    empty["offsets"] = np.array([0])
    counts = kernels.expected_counts(**empty)
    assert counts.evidence.shape == (1, 0) and (counts.transition == 0).all()
    assert kernels.viterbi(**empty)[0].shape == kernels.smoothed(**empty).shape[:2] == (1, 0)
    gap = arguments(3)
    gap["offsets"] = np.array([0, 1, 1, 3])
    assert kernels.evidence(**gap)[0, 1] == 0.0
    assert kernels.expected_counts(**gap).initial.sum() == pytest.approx(2.0)
    assert kernels.viterbi(**gap)[1][0, 1] == 0.0


def test_one_step_is_bayes_rule():
    table = np.log([[[0.2, 0.5, 0.1]]])
    law = np.log([[[0.5, 0.3, 0.2]]])
    counts = kernels.expected_counts(law, np.full((1, 1, 3, 3), -np.log(3)), table, [0, 1])
    np.testing.assert_allclose(np.exp(counts.evidence), 0.27)
    np.testing.assert_allclose(counts.initial[0, 0], np.array([0.1, 0.15, 0.02]) / 0.27)
    assert (counts.transition == 0).all()


@pytest.mark.parametrize("function", ["evidence", "expected_counts", "filtered", "smoothed", "viterbi"])
@pytest.mark.parametrize("name", ["log_initial", "log_transition", "log_table"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("states", [2, 4, 9])
def test_nan_and_infinity_are_refused(function, name, value, states):
    bad = arguments(5, states)
    bad[name][..., -1, 1] = value
    with pytest.raises(ValueError, match=f"^{name} must hold log-probabilities below infinity, got {value} at "):
        getattr(kernels, function)(**bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_table": np.zeros((5, 2))}, r"log_table must have shape \(B, R, K\)"),
        ({"log_table": np.zeros((1, 4, 2))}, r"log_table must have one row per step \(5\), got 4"),
        ({"log_initial": np.zeros((1, 3, 2))}, r"log_initial must have shape \(1, 1 or 1, 2\)"),
        ({"log_transition": np.zeros((1, 2, 2))}, r"log_transition must have shape \(1, S, 2, 2\)"),
        ({"log_transition": np.zeros((1, 3, 2, 2))}, "transition_index must be given for 3 matrices"),
        ({"offsets": [1, 5]}, "offsets must rise from 0 to T"),
        ({"offsets": [0, 4, 3, 5]}, "offsets must rise from 0 to T"),
        ({"emission_index": [0, 1, 2, 3, 5]}, r"emission_index must lie in 0..4, got 5 at step 4"),
        ({"emission_index": [0, -1, 2, 3, 4]}, r"emission_index must lie in 0..4, got -1 at step 1"),
        ({"emission_index": [0, 1]}, "emission_index must hold 5 whole numbers"),
        ({"emission_index": np.zeros(5)}, "emission_index must hold 5 whole numbers, got float64"),
        ({"transition_index": [0, 0, 0, 1, 0]}, r"transition_index must lie in 0..0, got 1 at step 3"),
    ],
)
def test_refusals_name_the_remedy(change, message):
    with pytest.raises(ValueError, match=message + ".*; .*\\.$"):
        kernels.evidence(**(arguments() | change))


def test_weights_and_uniforms_must_fit():
    with pytest.raises(ValueError, match=r"weights must have shape \(1, 1\)"):
        kernels.expected_counts(**arguments(), weights=np.ones(1))
    with pytest.raises(ValueError, match=r"uniforms must have shape \(1, M, 5\)"):
        kernels.sample_paths(**arguments(), uniforms=np.ones((1, 2, 4)))


def test_importing_the_kernels_does_not_import_numba():
    code = "import sys, probseq.kernels; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_second_process_finds_everything_compiled():
    code = """
import numpy as np
from probseq import kernels
from probseq.kernels import compiled, kit
kernels.expected_counts(np.zeros((1, 1, 2)), np.zeros((1, 1, 2, 2)), np.zeros((1, 5, 2)), [0, 5])
assert compiled.count_range.stats.cache_misses == {}, compiled.count_range.stats
assert all(function.cache_hits == 1 for function in kit._ALIVE), kit._ALIVE
"""
    for _ in range(2):  # the first leaves behind what the second must find
        result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
