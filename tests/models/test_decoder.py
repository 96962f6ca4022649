"""A decoder is a law of sentences: it sums to one, step by step and all at once, whoever its neighbours are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probseq.errors import DataError, ModelError
from probseq.models.decoder import Decoder, Given
from probseq.recurrent import GRU, Ragged
from tests.models.decoders import WAYS, every_sentence, ragged, small_decoder, something_given

BOTH = [(ways, memory) for ways in WAYS for memory in (False, True)]


@pytest.mark.parametrize(("ways", "memory"), BOTH)
def test_all_sentences_and_all_longer_beginnings_sum_to_one(ways: tuple[str, ...], memory: bool) -> None:
    decoder = small_decoder(ways, memory=memory)
    given = something_given(decoder, 1)
    ended = [(*codes, decoder.end) for codes in every_sentence(3, 4)]
    unended = every_sentence(3, 5, shortest=5)  # whatever has not ended after four symbols begins with one of these
    everything = ragged(ended + unended)
    logs = decoder.log_prob(given.take(torch.zeros(everything.count, dtype=torch.int64)), everything)
    assert logs.exp().sum().item() == pytest.approx(1.0, abs=1e-12)  # rounding of 364 terms


@pytest.mark.parametrize(("ways", "memory"), BOTH)
def test_known_sentences_score_as_step_by_step_and_alone(ways: tuple[str, ...], memory: bool) -> None:
    decoder = small_decoder(ways, memory=memory)
    given = something_given(decoder, 4)
    sentences = decoder.with_end(ragged([(), (0, 1, 2, 2, 1), (2,), (1, 1, 0)]))
    together = decoder.log_prob(given, sentences)
    for i in range(4):
        only = torch.tensor([i])
        own, codes = given.take(only), sentences.take(only).values
        assert torch.allclose(decoder.log_prob(own, sentences.take(only)), together[i], rtol=0, atol=1e-12)
        state, read, total = decoder.before(own), torch.tensor([decoder.end]), 0.0
        for code in codes:
            law, state = decoder.step(read, state, own)
            total, read = total + law[0, code], code.reshape(1)
        assert torch.allclose(torch.as_tensor(total), together[i], rtol=0, atol=1e-12)


def test_equations_in_numpy() -> None:
    """One GRU, the vector in all three ways, attention: written out again with nothing but arrays."""
    decoder = Decoder(4, 3, GRU(5, 6), vector_size=2, enters=("state", "input", "first"), memory_size=3).double()
    given = something_given(decoder, 2)
    assert given.vector is not None and given.memory is not None and given.mask is not None
    w = {name: value.detach().numpy() for name, value in decoder.named_parameters()}

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    def gru(x: np.ndarray, h: np.ndarray) -> np.ndarray:
        a = w["cell.layer.weight_ih_l0"] @ x + w["cell.layer.bias_ih_l0"]
        b = w["cell.layer.weight_hh_l0"] @ h + w["cell.layer.bias_hh_l0"]
        r, z = sigmoid(a[:6] + b[:6]), sigmoid(a[6:12] + b[6:12])
        return (1 - z) * np.tanh(a[12:] + r * b[12:]) + z * h

    sentence, expected = [2, 0, 4], []
    for i in range(2):
        v, total = given.vector[i].numpy(), 0.0
        memory = given.memory[i][given.mask[i]].numpy()
        h = w["starts.0.weight"] @ v + w["starts.0.bias"]
        h = gru(np.r_[w["first.weight"] @ v + w["first.bias"], v], h)
        for before, code in zip([4, 2, 0], sentence, strict=True):
            h = gru(np.r_[w["embed.weight"][before], v], h)
            scores = np.array([h @ w["attention.compare.weight"] @ m for m in memory])
            share = np.exp(scores) / np.exp(scores).sum()
            seen = np.tanh(w["attention.combine.weight"] @ np.r_[share @ memory, h])
            logits = w["head.weight"] @ seen + w["head.bias"]
            total += logits[code] - np.log(np.exp(logits).sum())
        expected.append(total)
    found = decoder.log_prob(given, Ragged(torch.tensor(sentence * 2), torch.tensor([3, 3])))
    assert np.allclose(found.detach().numpy(), expected, rtol=0, atol=1e-12)


def test_a_fresh_head_can_start_from_the_frequencies_of_symbols() -> None:
    decoder = Decoder(2, 3, GRU(3, 4))
    decoder.prepare(Ragged(torch.tensor([0, 0, 0, 2]), torch.tensor([4])))
    assert decoder.head.bias.exp().tolist() == pytest.approx([4 / 7, 1 / 7, 2 / 7])


def test_a_description_makes_the_same_decoder() -> None:
    decoder = small_decoder(("state", "input"), memory=True)
    again = Decoder.rebuild(decoder.description()).double()
    again.load_state_dict(decoder.state_dict())
    given, sentences = something_given(decoder, 1), Ragged(torch.tensor([0, 3]), torch.tensor([2]))
    assert torch.equal(again.log_prob(given, sentences), decoder.log_prob(given, sentences))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbols": 0}, "symbols and embedding_size must be at least 1, got 0 and 2"),
        ({"enters": ("state", "start"), "vector_size": 3}, "enters must be of state, input, first, got 'start'"),
        ({"vector_size": 3}, "a vector must have a size and a way to enter"),
        ({"enters": ("input",), "vector_size": 3}, "the cell's input_size must be 5"),
    ],
)
def test_a_decoder_that_cannot_be(changes: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Decoder(**({"symbols": 3, "embedding_size": 2, "cell": GRU(2, 4)} | changes))


def test_what_is_given_must_be_what_the_decoder_was_made_for() -> None:
    sentences = Ragged(torch.tensor([0]), torch.tensor([1]))
    vector, state = torch.zeros(1, 3), (torch.zeros(1, 4),)
    by_state, by_vector = Decoder(3, 2, GRU(2, 4)), Decoder(3, 2, GRU(2, 4), vector_size=3, enters=("state",))
    attending = Decoder(3, 2, GRU(2, 4), memory_size=2)
    for decoder, given, message in [
        (by_state, Given(), "must be given something"),
        (by_state, Given(vector), "the vector given must have no numbers, got 3"),
        (by_vector, Given(state=state), "the vector given must have 3 numbers, got none"),
        (by_vector, Given(vector, state), "the first state must come from the vector"),
        (attending, Given(state=state), "a memory must be given if and only if memory_size is, got none"),
    ]:
        with pytest.raises(DataError, match=message):
            decoder.log_prob(given, sentences)
