"""Speakers and activities told apart by networks that were chosen and learned on the training data alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probseq import Pairs, Sequences
from tests.experiments.sequence_classification import LABELS, NETWORKS, Result, as_markdown, measure, thirds

LEAST = {"vanilla": 0.94, "lstm": 0.95, "bidirectional": 0.96}
"""Accuracy that a network is to reach on the test data of the speakers, as the mean of its five seeds."""


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", LABELS)
def test_accuracy_of_networks_that_were_chosen_on_the_training_data(shared_data, name: str, network: str) -> None:
    """Up to a minute each. Measured, the mean of five seeds with its spread, and their ensemble:

    speakers: vanilla 96.5% +- 1.0%, 98.1%; LSTM 96.5% +- 0.6%, 97.8%; bidirectional 97.8% +- 0.2%, 98.6%;
    activities: vanilla 97.0% +- 2.1%, 97.5%; LSTM 96.5% +- 2.2%, 97.5%; bidirectional 95.0% +- 1.8%, 95.0%.
    """
    shared_data(f"{name}_test.csv")
    result = measure(shared_data(f"{name}_train.csv").parent, name, network)
    print(as_markdown([result]))
    assert np.mean(result.accuracies) >= (LEAST[network] if name == "japanese_vowels" else 0.9)


def test_thirds_hold_every_class_and_every_pair_once() -> None:
    codes = torch.tensor([0] * 6 + [1] * 9)
    parts = thirds(Pairs(Sequences.from_arrays([[float(n)] for n in range(15)]), codes))
    assert sorted(np.concatenate(parts).tolist()) == list(range(15))
    assert [np.bincount(codes[part]).tolist() for part in parts] == [[2, 3]] * 3


def test_the_table_has_mean_and_spread() -> None:
    result = Result("d", "n", {"pooling": "mean", "dropout": 0.5}, 9, 0.9, [0.9, 1.0], 1.0, 3.0)
    assert "| d | n | mean, 0.5, 9 | 90.0% | 95.0% +- 7.1% | 90.0% to 100.0% | 100.0% |" in as_markdown([result])
