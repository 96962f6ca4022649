"""Scores of called exons against counts by hand, and against definitions spelled out base by base."""

from __future__ import annotations

import math

import numpy as np
import pytest

from probseq import DataError
from probseq.genome import base_scores, exon_scores, runs


def test_bases_by_hand():
    """4 hits, 1 missed, 2 false, 3 right: MCC = (4 x 3 - 2 x 1) / sqrt(5 x 6 x 4 x 5)."""
    truth = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    call = [1, 1, 1, 1, 0, 1, 1, 0, 0, 0]
    expected = {"accuracy": 0.7, "sensitivity": 0.8, "specificity": 0.6, "precision": 4 / 6, "MCC": 10 / math.sqrt(600)}
    assert base_scores(truth, call) == pytest.approx(expected, rel=1e-14)


def test_the_correlation_is_numpys():
    rng = np.random.default_rng(0)
    truth, call = rng.random(1000) < 0.2, rng.random(1000) < 0.3
    assert base_scores(truth, call)["MCC"] == pytest.approx(np.corrcoef(truth, call)[0, 1], rel=1e-12)


def test_a_call_of_nothing():
    found = base_scores([True, False], [False, False])
    assert found["MCC"] == 0.0 and found["sensitivity"] == 0.0 and math.isnan(found["precision"])
    found = exon_scores([[0, 1]], [])
    assert found["sensitivity"] == 0.0 and found["missed"] == 1.0 and math.isnan(found["specificity"])


def test_exons_are_those_of_the_definition():
    """Random exons, some of which overlap: every pair is compared."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        known, said = (np.unique([[s, s + n] for s, n in rng.integers(1, 6, (6, 2)) * [3, 1]], axis=0) for _ in "ab")
        meet = [[max(a[0], b[0]) < min(a[1], b[1]) for b in said] for a in known]
        same = sum(tuple(a) == tuple(b) for a in known for b in said)
        expected = {
            "exact": same,
            "sensitivity": same / len(known),
            "specificity": same / len(said),
            "missed": np.mean([not any(row) for row in meet]),
            "wrong": np.mean([not any(column) for column in zip(*meet, strict=True)]),
        }
        assert exon_scores(known, said) == pytest.approx(expected)


def test_runs_tile_what_is_called():
    rng = np.random.default_rng(2)
    call = rng.random(200) < 0.6
    again = np.zeros(200, dtype=bool)
    for start, end in runs(call):
        assert not again[max(start - 1, 0) : end].any()
        again[start:end] = True
    assert np.array_equal(again, call) and runs([]).shape == (0, 2)


def test_what_is_no_call():
    with pytest.raises(DataError, match="one entry a base"):
        base_scores([True], [True, False])
    with pytest.raises(DataError, match=r"start below their end, \(n, 2\), got shape \(1, 2\) at call"):
        exon_scores([[0, 2]], [[5, 5]])
    with pytest.raises(DataError, match="call must be True or False at each base, got float64"):
        base_scores([True, False], [0.9, 0.2])
    with pytest.raises(DataError, match="truth must be True or False"):
        base_scores([math.nan, 1.0], [True, False])
    with pytest.raises(DataError, match="one sequence at a time"):
        runs([[True, False]])
    with pytest.raises(DataError, match="whole starts and ends, got float64 of other values at truth"):
        exon_scores([[0.5, 2.0]], [[0, 2]])
    with pytest.raises(DataError, match="whole starts"):
        exon_scores([[math.nan, 2.0]], [[0, 2]])
