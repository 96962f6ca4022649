"""Translation: an exact law of target sentences, a Pyro program, and a network that learns, is saved and translates."""

from __future__ import annotations

from pathlib import Path

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

from probseq.errors import DataError, ModelError
from probseq.inference.network_fit import NetworkFit
from probseq.inference.training import train
from probseq.io.parallel import read_parallel, read_sentences
from probseq.models.beam_search import Beam, WuLength
from probseq.models.decoder import Decoder
from probseq.models.sentence_search import Greedy, Sampling
from probseq.models.sequence_to_sequence import BATCH, SentencePairs, SequenceToSequence
from probseq.models.vocabulary import Vocabulary
from probseq.pairs import Pairs
from probseq.recurrent import GRU, LSTM, Bidirectional
from probseq.sequences import Sequences
from tests.models.decoders import every_sentence, ragged

DIGITS = [("1", "un"), ("2", "deux"), ("3", "trois"), ("4", "quatre"), ("5", "cinq"), ("6", "six")]
TEXT = "\n".join(f"{a} {b}\t{v} {u}" for a, u in DIGITS for b, v in DIGITS)  # the words in the opposite order
PAIRS = read_parallel(text=TEXT)


def made(kind: str, *, reverse: bool = True) -> SequenceToSequence:
    """A network of each make, float64, far from uniform."""
    source, target = Vocabulary(("a", "b")), Vocabulary(("u", "v"))
    if kind == "stacked":
        pairs = Pairs(read_sentences(["a b"]), read_sentences(["u v"]))
        network = SequenceToSequence.of(pairs, hidden_size=4, layers=2, embedding_size=3, reverse=reverse)
    elif kind == "attention":
        encoder, decoder = LSTM(3, 4), Decoder(2, 3, LSTM(3, 4, seed=1), memory_size=4)
        network = SequenceToSequence(source, target, encoder, decoder, reverse=reverse)
    else:  # as in Cho et al. (2014), the state at every step; here of an encoder unlike the decoder
        encoder = Bidirectional(GRU(3, 2), GRU(3, 2, seed=1))
        decoder = Decoder(2, 3, GRU(7, 5), vector_size=4, enters=("state", "input"), memory_size=4)
        network = SequenceToSequence(source, target, encoder, decoder, reverse=reverse)
    with torch.no_grad():
        network.embed.weight.mul_(3)
        network.decoder.head.weight.mul_(5)
    return network.double()


KINDS = ["stacked", "attention", "unlike"]


@pytest.mark.parametrize("kind", KINDS)
def test_all_translations_and_all_longer_beginnings_sum_to_one(kind: str) -> None:
    network = made(kind)
    source = network.encode_source(read_sentences(["a b b"]))
    targets = ragged([(*codes, 2) for codes in every_sentence(2, 5)] + every_sentence(2, 6, shortest=6))
    together = source.take(torch.zeros(targets.count, dtype=torch.int64))
    assert network.score(SentencePairs(together, targets)).log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_scores_alike_in_any_batch_and_its_steps_are_symbols_and_end(kind: str) -> None:
    network = made(kind)
    pairs = read_parallel(text="a\tu v u\na b a b\tv\nb b\tu u")
    scored = network.score(network.encode(pairs))
    assert scored.steps.tolist() == [4, 2, 3]
    for i in range(3):
        assert network.log_prob(pairs.take([i])).item() == pytest.approx(scored.log_prob[i].item(), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_reading_backwards_is_reading_the_reversed_sentence(kind: str) -> None:
    backward, forward = made(kind), made(kind, reverse=False)
    given, turned = read_parallel(text="a b b\tu v\nb a\tv v"), read_parallel(text="b b a\tu v\na b\tv v")
    assert torch.equal(backward.log_prob(given), forward.log_prob(turned))
    assert not torch.allclose(backward.log_prob(given), forward.log_prob(given))


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_with_an_empty_guide_has_the_exact_negative_log_probability(kind: str) -> None:
    network = made(kind)
    pairs = read_parallel(text="a\tu v u\na b a b\tv\nb b\tu u")
    loss = Trace_ELBO().loss(network.program, lambda data: None, pairs)
    assert loss == pytest.approx(-network.log_prob(pairs).sum().item(), abs=1e-10)
    trace = pyro.poutine.trace(network.program).get_trace(pairs)
    assert trace.nodes["y"]["value"].tolist() == [0, 1, 0, 2, 1, 2, 0, 0, 2]


def test_a_step_of_svi_moves_the_network_downhill() -> None:
    network = made("stacked")
    pairs = read_parallel(text="a\tu v u\nb b\tu u")
    svi = SVI(network.program, lambda data: None, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())  # type: ignore[attr-defined]
    before = svi.step(pairs)
    assert svi.evaluate_loss(pairs) < before


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_makes_the_same_network(kind: str) -> None:
    network = made(kind)
    again = SequenceToSequence.rebuild(network.description()).double()
    again.load_state_dict(network.state_dict())
    pairs = read_parallel(text="a\tu v u\na b a b\tv")
    assert torch.equal(again.log_prob(pairs), network.log_prob(pairs))
    assert again.description() == network.description()


def test_codes_of_another_text_mean_the_same_words() -> None:
    network = made("stacked")
    alone, among = read_parallel(text="b\tv"), read_parallel(text="a\tu\nb\tv").take([1])
    assert torch.equal(network.log_prob(alone), network.log_prob(among))


def test_an_unknown_source_word_is_read_as_a_rare_one_and_said() -> None:
    with_rare = read_parallel(text="a b\tu\na c\tu\nb b\tu\n", rare=2)
    assert with_rare.inputs.categories == ("a", "b", "<rare>")  # type: ignore[union-attr]
    for pairs, same in [(with_rare, True), (read_parallel(text="a b\tu\n"), False)]:
        network = SequenceToSequence.of(pairs, hidden_size=4)
        found = network.translate(["a x y x", "b a"], Greedy(3))
        assert found["unknown"].tolist() == ["'x' 'y'", ""]
        source = network.encode_source(read_sentences(["a x", "a c"]))
        code = network.source.rare if same else network.source.size
        assert source.values.tolist() == [code, 0, code, 0]  # read from the last word to the first
    with pytest.raises(DataError, match="a symbol of the targets must be one of the 1 .* got 'w' at sentence 1"):
        network.encode(read_parallel(text="a\tu\na\tu w"))


@pytest.mark.parametrize("search", [Greedy(6), Beam(4, 3, WuLength(), 6), Sampling(2, seed=1, longest=6)], ids=repr)
def test_translations_have_the_log_probability_of_their_pair(search) -> None:  # noqa: ANN001
    network = made("attention")
    sentences = ["a", "b a b", "a b", "b b b b a"]
    found = network.translate(sentences, search)
    found = found[found["translation"] != ""]  # an empty sentence is no sequence
    again = Pairs(read_sentences([sentences[i] for i in found["source"]]), read_sentences(list(found["translation"])))
    assert network.log_prob(again).tolist() == pytest.approx(found["log_prob"].tolist(), abs=1e-12)
    assert network.training  # as it was


def test_samples_of_one_batch_are_not_those_of_another() -> None:
    """Under one stream of draws for all batches, the second copies of a sentence got the very samples of the first."""
    sentences = ["1 2"] * (2 * BATCH)
    found = SequenceToSequence.of(PAIRS, hidden_size=8).translate(sentences, Sampling(seed=1, longest=6))
    drawn = found["translation"].tolist()
    assert drawn[:BATCH] != drawn[BATCH:]
    again = SequenceToSequence.of(PAIRS, hidden_size=8).translate(sentences, Sampling(seed=1, longest=6))
    assert again["translation"].tolist() == drawn


def test_it_learns_to_translate_and_is_saved(tmp_path: Path) -> None:
    """36 pairs by heart, from a fresh network."""
    network = SequenceToSequence.of(PAIRS, hidden_size=32, embedding_size=16)
    fit = train(network, PAIRS, epochs=60, learning_rate=0.02, batch_size=12, patience=None)
    lines = [line.split("\t") for line in TEXT.splitlines()]
    found = fit.network.translate([source for source, _ in lines])  # type: ignore[operator]
    assert found["translation"].tolist() == [target for _, target in lines]
    fit.save(tmp_path / "fit")
    again = NetworkFit.load(tmp_path / "fit")
    assert torch.equal(again.log_prob(PAIRS), fit.log_prob(PAIRS))
    found = again.network.translate(["1 2"], Beam(3, 3))  # type: ignore[operator]
    assert found.equals(fit.network.translate(["1 2"], Beam(3, 3)))  # type: ignore[operator]


def test_characters_are_joined_without_spaces() -> None:
    pairs = read_parallel(text="ab\txy\nba\tyx", level="character")
    network = SequenceToSequence.of(pairs, hidden_size=4)
    assert network.target.text([1, 0]) == "yx"
    assert network.translate(["ab"], Greedy(3))["source"].tolist() == [0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder": Decoder(3, 3, LSTM(3, 4))}, "symbols of the decoder must be 2, got 3"),
        ({"decoder": Decoder(2, 3, LSTM(3, 5))}, "the encoder's state must be one of the decoder's cell"),
        ({"decoder": Decoder(2, 3, LSTM(3, 4), memory_size=3)}, "memory_size of the decoder must be 4, got 3"),
        (
            {"decoder": Decoder(2, 3, LSTM(3, 4), vector_size=4, enters=("state",))},
            "vector_size of the decoder must be 8, got 4",
        ),
    ],
)
def test_parts_that_do_not_fit(changes: dict, message: str) -> None:
    words = Vocabulary(("u", "v"))
    with pytest.raises(ModelError, match=message):
        SequenceToSequence(words, words, **({"encoder": LSTM(3, 4)} | changes))


def test_what_is_no_pair_of_sentences() -> None:
    network, words = made("stacked"), read_sentences(["a b"])
    numbers, written = Sequences.from_arrays([[1.0, 2.0]]), read_sentences(["u v"])
    for pairs, message in [
        (words, "translation must be learned from Pairs of sentences"),
        (Pairs(words, torch.tensor([1])), "translation must be learned from Pairs of sentences"),
        (Pairs(numbers, written), "sentences must be of symbols with categories, got numbers"),
    ]:
        with pytest.raises(DataError, match=message):
            network.encode(pairs)  # type: ignore[arg-type]
