"""Two regimes of composition along the 48,502 bases of phage lambda (Churchill 1989; Braun & Müller 1998)."""

from __future__ import annotations

import numpy as np
import pytest

from probseq import HMM, Sequences, datasets, em, families


@pytest.fixture(scope="module")
def genome() -> Sequences:
    return datasets.phage_lambda()


def test_one_state_is_independent_bases(genome):
    fit = em(HMM(1, families.Categorical()), genome, restarts=1)
    # The numbers of A, C, G and T in NC_001416.1, and their own shares: sum n log(n / T) = -67191.3828.
    counts = np.array([12334, 11362, 12820, 11986])
    assert fit.log_likelihood == pytest.approx(float((counts * np.log(counts / 48502)).sum()), abs=1e-8)


def test_two_states(genome):
    fit = em(HMM(2, families.Categorical()), genome, restarts=2, workers=1)
    assert fit.log_likelihood == pytest.approx(-66678.071, abs=5.1e-4)
    rich = int(fit.parameters["probabilities"][:, [1, 2]].sum(1).argmax())
    order = [1 - rich, rich]
    stay = fit.parameters["transition"].diagonal()[order].tolist()
    assert stay == pytest.approx([0.999774, 0.999884], abs=5.1e-7)
    published = [[0.2697, 0.2085, 0.1984, 0.3235], [0.2464, 0.2475, 0.2983, 0.2078]]
    np.testing.assert_allclose(fit.parameters["probabilities"][order], published, rtol=0, atol=5.1e-5)
    path = fit.posterior(genome).viterbi.numpy()
    assert path[0] == order[0]
    # Known positions, counted from 1 as biologists do.
    assert (np.flatnonzero(np.diff(path)) + 2).tolist() == [177, 22500, 31225, 33187, 38366, 46494]


@pytest.mark.slow
def test_three_states(genome):
    fit = em(HMM(3, families.Categorical()), genome, restarts=10)
    assert fit.log_likelihood >= -66587.8435
