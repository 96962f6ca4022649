"""Hidden Markov models small enough to have printed answers: every probability to all the digits that are published."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from probseq import HMM, MarkovChain, Sequences, families


def parameters(initial, transition, **emission) -> dict[str, torch.Tensor]:
    given = {"initial": initial, "transition": transition, **emission}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in given.items()}


RAIN = parameters([0.6, 0.4], [[0.7, 0.3], [0.4, 0.6]], probabilities=[[0.1, 0.4, 0.5], [0.6, 0.3, 0.1]])
DNA = parameters(
    [0.5, 0.5], [[0.5, 0.5], [0.4, 0.6]], probabilities=[[0.2, 0.3, 0.3, 0.2], [0.3, 0.2, 0.2, 0.3]]
)  # A, C, G, T
STEPS = parameters(
    [0.25] * 4,
    [[0.9, 0.1, 0.0, 0.0], [0.1, 0.8, 0.1, 0.0], [0.0, 0.1, 0.8, 0.1], [0.0, 0.0, 0.1, 0.9]],
    loc=[0.0, 1.0, 2.0, 3.0],
    scale=[0.25] * 4,
)


def read(word: str, alphabet: str) -> Sequences:
    codes = torch.tensor([alphabet.index(letter) for letter in word], dtype=torch.uint8)
    return Sequences(codes, torch.tensor([len(word)]), categories=tuple(alphabet))


def test_rain_of_wikipedias_viterbi_article():
    series = read("012", "012")
    found = HMM(2, families.Categorical(3)).posterior(RAIN, series)
    # Both probabilities are finite decimals: only rounding separates them.
    assert float(found.log_evidence.exp()) == pytest.approx(0.033612, rel=1e-13)
    assert found.viterbi.tolist() == [1, 0, 0]
    assert float(found.viterbi_log_prob.exp()) == pytest.approx(0.01344, rel=1e-13)
    # By hand: 0.06 (0.28 * 0.38 + 0.09 * 0.26), 0.0552 * 0.38 and 0.5 (0.7 * 0.0552 + 0.4 * 0.0486), over the evidence.
    exact = [0.007788 / 0.033612, 0.020976 / 0.033612, 0.02904 / 0.033612]
    assert found.smoothed[:, 0].tolist() == pytest.approx(exact, rel=1e-12)
    # As printed by a program in single precision.
    assert found.smoothed[:, 0].tolist() == pytest.approx([0.23170303, 0.62406281, 0.86397706], abs=2e-7)


def test_the_chain_alone_weighs_the_path_of_the_rain_example():
    chain = MarkovChain(RAIN["initial"], RAIN["transition"], 3)
    # 0.4 * 0.4 * 0.7 for the path 1, 0, 0; the emissions 0.6, 0.4, 0.5 complete the published 0.01344.
    prior = float(chain.log_prob(torch.tensor([1, 0, 0])).exp())
    assert prior == pytest.approx(0.112, rel=1e-13)
    assert prior * 0.6 * 0.4 * 0.5 == pytest.approx(0.01344, rel=1e-13)
    paths = torch.tensor(list(itertools.product(range(2), repeat=3)))
    assert sum(float(chain.log_prob(path).exp()) for path in paths) == pytest.approx(1.0, rel=1e-13)


def test_dna_of_high_and_low_gc_content():
    model = HMM(2, families.Categorical(4))
    found = model.posterior(DNA, read("GGCACTGAA", "ACGT"))
    assert "".join("HL"[state] for state in found.viterbi.tolist()) == "HHHLLLLLL"
    # Five and six significant digits are published.
    assert float(found.viterbi_log_prob.exp()) == pytest.approx(4.2515e-8, abs=0.51e-12)
    assert float(found.log_evidence.exp()) == pytest.approx(3.79102e-6, abs=0.51e-11)
    short = model.posterior(DNA, read("GGCA", "ACGT"))
    assert float(short.log_evidence.exp()) == pytest.approx(0.00384315, abs=0.51e-8)


def test_four_steps_up_of_tensorflow_probability():
    series = Sequences.from_arrays([0.1, 0.2, 0.3, 0.4, 0.5, 3.0, 2.9, 2.8, 2.7, 2.6])
    found = HMM(4, families.Gaussian()).posterior(STEPS, series)
    assert found.viterbi.tolist() == [0, 0, 0, 0, 1, 2, 3, 3, 3, 3]
    # The published path passes through states 1 and 2, because 0 -> 3 in one move is impossible.
    assert math.isfinite(float(found.viterbi_log_prob))
