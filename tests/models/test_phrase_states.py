"""Hidden states of phrases, their principal components and the variance that factors explain."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA

from probseq.errors import DataError
from probseq.io.parallel import read_parallel, read_sentences
from probseq.models.phrase_states import phrase_states, principal_components, variance_shares
from probseq.models.sequence_to_sequence import SequenceToSequence
from probseq.recurrent import GRU, Bidirectional, Stacked
from tests.models.test_sequence_to_sequence import made

RNG = np.random.default_rng(0)


def test_a_state_is_h_of_the_uppermost_cell_after_the_last_word_that_is_read() -> None:
    pairs = read_parallel(text="a b c\tu\nb\tu")
    network = SequenceToSequence.of(pairs, hidden_size=4, layers=2, embedding_size=3).double()
    states = phrase_states(network, ["a b c", "b", "c a"])
    assert list(states.index) == ["a b c", "b", "c a"] and states.shape == (3, 4)
    assert isinstance(network.encoder, Stacked)
    for text, row in states.iterrows():
        words = [network.source.names.index(word) for word in reversed(str(text).split())]
        state = network.encoder.start(1)
        for word in words:
            h, state = network.encoder.step(network.embed(torch.tensor([word])), state)
        assert row.tolist() == pytest.approx(h[0].tolist(), abs=1e-12)


def test_an_encoder_in_both_directions_has_the_state_of_each_where_it_ends() -> None:
    network = made("unlike")
    assert isinstance(network.encoder, Bidirectional) and isinstance(network.encoder.past, GRU)
    states = phrase_states(network, read_sentences(["a b", "b"]))
    (own,) = network.encoder.past.unroll(network.embed(torch.tensor([[1, 0]])))[1]
    assert states.iloc[0, :2].tolist() == pytest.approx(own[0].tolist(), abs=1e-12)
    assert states.shape == (2, 4)


def test_principal_components_are_those_of_scikit_learn() -> None:
    states = pd.DataFrame(RNG.normal(size=(12, 5)) @ RNG.normal(size=(5, 5)))
    found, other = principal_components(states, 3), PCA(3).fit(states.to_numpy())
    np.testing.assert_allclose(found.shares, other.explained_variance_ratio_, atol=1e-12)
    signs = np.sign((found.directions * other.components_).sum(axis=1))
    np.testing.assert_allclose(found.directions, other.components_ * signs[:, None], atol=1e-10)
    np.testing.assert_allclose(found.scores, other.transform(states.to_numpy()) * signs, atol=1e-10)
    assert (found.directions[range(3), np.abs(found.directions).argmax(axis=1)] > 0).all()


def test_variance_shares_are_sums_of_squares_by_hand() -> None:
    """A balanced design with known effects: squares of effects add up, what is held fixed does not count."""
    rows = pd.DataFrame(itertools.product("vw", "ab", "xy", range(2)), columns=["verb", "who", "voice", "repeat"])
    noise = np.array([0.1, -0.1])[rows["repeat"]]
    numbers = np.c_[
        rows["who"].map({"a": 3.0, "b": -3.0}) + rows["verb"].map({"v": 50.0, "w": -50.0}),
        rows["voice"].map({"x": 1.0, "y": -1.0}) + noise,
    ]
    shares = variance_shares(pd.DataFrame(numbers), rows[["verb", "who", "voice"]], within=["verb"])
    total = 3.0**2 + 1.0**2 + 0.1**2
    assert shares.to_dict() == pytest.approx({"who": 9 / total, "voice": 1 / total, "rest": 0.01 / total}, abs=1e-12)
    of_all = variance_shares(pd.DataFrame(numbers), rows[["verb", "who", "voice"]])
    assert of_all["verb"] == pytest.approx(2500 / (2500 + total), abs=1e-12)


def test_words_alone_cannot_tell_who_acts() -> None:
    """Of a sentence and its swap a bag of words is the same, so that role explains nothing of it."""
    table = pd.DataFrame(
        [("a sees b", "a", "active"), ("b sees a", "b", "active"), ("b is seen by a", "a", "passive")]
        + [("a is seen by b", "b", "passive")],
        columns=["text", "who", "voice"],
    )
    shares = variance_shares(table["text"].str.get_dummies(sep=" ").astype(float), table[["who", "voice"]])
    assert shares.to_dict() == {"who": 0.0, "voice": 1.0, "rest": 0.0}


def test_what_has_no_components_or_no_variance() -> None:
    states = pd.DataFrame(np.zeros((3, 2)))
    with pytest.raises(DataError, match="components must be 1 to 2, for 3 rows of 2 numbers, got 3"):
        principal_components(states, 3)
    with pytest.raises(DataError, match="states must differ, got all alike"):
        variance_shares(states, pd.DataFrame({"voice": list("aab")}))
    with pytest.raises(DataError, match="a row for each of the 3 states"):
        variance_shares(states, pd.DataFrame({"voice": list("aa")}))
    assert principal_components(states, 2).shares.tolist() == [0.0, 0.0]
