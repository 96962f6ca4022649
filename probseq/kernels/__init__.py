"""Recursions over time: tables of log-probabilities and indices in, posteriors out (numba, and torch as reference)."""

from probseq.kernels.recursions import (
    ExpectedCounts,
    evidence,
    expected_counts,
    filtered,
    k_best,
    left_out,
    sample_paths,
    simulate_paths,
    smoothed,
    viterbi,
)

__all__ = [
    "ExpectedCounts",
    "evidence",
    "expected_counts",
    "filtered",
    "k_best",
    "left_out",
    "sample_paths",
    "simulate_paths",
    "smoothed",
    "viterbi",
]
