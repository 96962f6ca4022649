"""Searches against the enumeration of all sentences of a tiny vocabulary."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from probseq.errors import ModelError
from probseq.models.beam_search import AverageLength, Beam, LengthPenalty, WuLength
from probseq.models.decoder import Decoder, Given
from probseq.models.sentence_search import Greedy, Sampling, Search, sentences_of
from tests.models.decoders import every_sentence, ragged, small_decoder, something_given

PENALTIES: list[LengthPenalty | None] = [None, AverageLength(), WuLength(0.6), WuLength(3.0)]


def all_log_probs(decoder: Decoder, given: Given, longest: int) -> dict[tuple[int, ...], float]:
    """log p of every sentence of at most `longest` symbols."""
    sentences = every_sentence(decoder.symbols, longest)
    rows = given.take(torch.zeros(len(sentences), dtype=torch.int64))
    return dict(zip(sentences, decoder.log_prob(rows, decoder.with_end(ragged(sentences))).tolist(), strict=True))


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_what_enumeration_finds(penalty: LengthPenalty | None, seed: int) -> None:
    decoder = small_decoder(("state", "input"), seed=seed, memory=seed == 1)
    given = something_given(decoder, 2, seed)
    search = Beam(width=27 + 9, best=6, penalty=penalty, longest=3)
    for i, found in enumerate(search.find(decoder, given)):
        logs = all_log_probs(decoder, given.take(torch.tensor([i])), 3)
        scores = {
            codes: log
            / {
                "NoneType": 1.0,
                "AverageLength": len(codes) + 1,
                "WuLength": ((6 + len(codes)) / 6) ** getattr(penalty, "alpha", 0),
            }[type(penalty).__name__]
            for codes, log in logs.items()
        }
        expected = sorted(scores, key=lambda codes: -scores[codes])[:6]
        assert [one.codes for one in found] == expected
        assert [one.score for one in found] == pytest.approx([scores[codes] for codes in expected], abs=1e-12)
        assert [one.log_prob for one in found] == pytest.approx([logs[codes] for codes in expected], abs=1e-12)
        assert [one.cut for one in found] == [len(codes) == 3 for codes in expected]


def test_a_vocabulary_of_one_word_has_a_beam_that_never_fills() -> None:
    decoder = small_decoder(symbols=1)
    given = something_given(decoder, 1)
    (found,) = Beam(width=20, best=20, longest=4).find(decoder, given)
    assert {one.codes: pytest.approx(one.log_prob) for one in found} == all_log_probs(decoder, given, 4)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_a_wider_search_that_stops_early_loses_nothing(penalty: LengthPenalty | None) -> None:
    """The same beam goes on for longer where more sentences are asked for."""
    for seed in range(5):
        decoder = small_decoder(seed=seed)
        given = something_given(decoder, 3, seed)
        stopped = Beam(4, 1, penalty, longest=12).find(decoder, given)
        goes_on = Beam(4, 4, penalty, longest=12).find(decoder, given)
        assert [one[0].codes for one in stopped] == [one[0].codes for one in goes_on]


@pytest.mark.parametrize("search", [Greedy(8), Beam(3, 3, None, 8), Beam(3, 2, AverageLength(), 8), Beam(2, longest=8)])
def test_what_is_found_depends_on_no_neighbour_and_scores_as_the_decoder_says(search: Search) -> None:
    decoder = small_decoder(("state", "first"), memory=True, seed=2)
    given = something_given(decoder, 7)
    together = search.find(decoder, given)
    order = torch.tensor([3, 0, 6])
    again = search.find(decoder, given.take(order))
    for i, place in enumerate(order.tolist()):
        (alone,) = search.find(decoder, given.take(torch.tensor([place])))
        for other in (again[i], alone):
            assert [one.codes for one in other] == [one.codes for one in together[place]]
            expected = [one.log_prob for one in together[place]]
            assert [one.log_prob for one in other] == pytest.approx(expected, abs=1e-12)
    for i, found in enumerate(together):
        rows = given.take(torch.full((len(found),), i))
        logs = decoder.log_prob(rows, decoder.with_end(sentences_of(found)))
        assert [one.log_prob for one in found] == pytest.approx(logs.tolist(), abs=1e-12)


def test_greedy_is_a_beam_of_one_and_takes_the_likeliest_symbol_each_time() -> None:
    for seed in range(6):
        decoder = small_decoder(seed=seed)
        given = something_given(decoder, 5, seed)
        greedy = Greedy(6).find(decoder, given)
        assert greedy == Beam(1, longest=6).find(decoder, given)
        codes = greedy[0][0].codes
        for t, code in enumerate((*codes, decoder.end)[:6]):
            nexts = ragged([(*codes[:t], symbol) for symbol in range(decoder.symbols + 1)])
            logs = decoder.log_prob(given.take(torch.zeros(nexts.count, dtype=torch.int64)), nexts)
            assert int(logs.argmax()) == code


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_follow_the_law_at_its_temperature(temperature: float) -> None:
    decoder = small_decoder(seed=3)
    given = something_given(decoder, 1)
    n = 4000
    (found,) = Sampling(n, temperature, seed=1, longest=40).find(decoder, given)
    counts = Counter(one.codes for one in found)

    def chance(codes: tuple[int, ...]) -> float:
        """The product of each symbol's sharpened chance, from the decoder's laws step by step."""
        state, read, total = decoder.before(given), torch.tensor([decoder.end]), 1.0
        for code in (*codes, decoder.end):
            law, state = decoder.step(read, state, given)
            sharp = law[0].detach().exp() ** (1 / temperature)
            total, read = total * float(sharp[code] / sharp.sum()), torch.tensor([code])
        return total

    for codes, count in counts.most_common(6):
        p = chance(codes)
        assert abs(count - n * p) < 4 * math.sqrt(n * p * (1 - p))  # four standard errors, with a fixed seed
    assert Sampling(n, temperature, seed=1, longest=40).find(decoder, given) == [found]
    assert [one.log_prob for one in found] == sorted((one.log_prob for one in found), reverse=True)
    assert Sampling(5, temperature, seed=2, longest=40).find(decoder, given) != [found[:5]]


def test_sampling_leaves_the_global_random_numbers_alone() -> None:
    decoder = small_decoder()
    before = torch.get_rng_state()
    Sampling(3).find(decoder, something_given(decoder, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_search_that_cannot_be() -> None:
    with pytest.raises(ModelError, match="best must be 1 to width, 2, got 3 at Beam"):
        Beam(2, 3)
    with pytest.raises(ModelError, match="longest must be at least 1, got 0 at Greedy"):
        Greedy(0)
    with pytest.raises(ModelError, match="count must be at least 1 and temperature above 0"):
        Sampling(temperature=0.0)
    with pytest.raises(ModelError, match="alpha must be at least 0, got -1 at WuLength"):
        WuLength(-1)
