"""Captions of images and of videos, against torch's own layers run by hand on the same weights."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import Tensor, nn

from probseq import DataError, ModelError, Pairs, Sequences
from probseq.inference import NetworkFit, train
from probseq.models.beam_search import Beam
from probseq.models.captioning import Captioner
from probseq.models.decoder import Decoder
from probseq.models.image_encoder import ConvolutionalEncoder
from probseq.models.network import Network
from probseq.models.sentence_search import Greedy, Sampling
from probseq.models.video_captioning import VideoCaptioner, transferred
from probseq.models.vocabulary import Vocabulary
from probseq.recurrent import FourDirections, cell_by_name
from probseq.recurrent.described import Described

SHAPE = (2, 9, 8)
SAID = "a dot\na dot above a line\nnothing\na line\na line above a line"
SENTENCES = Sequences.from_text(text=SAID, level="word", separator="\n")
ENTERS = [("first",), ("state",), ("input",), ("first", "state"), ("input", "state"), ("first", "input", "state")]


def images(count: int = 5, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def videos(seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    return Sequences.from_arrays([rng.random((steps, int(np.prod(SHAPE)))) for steps in (3, 1, 4, 2, 2)])


CAPTIONS, FILMS = Pairs(images(), SENTENCES), Pairs(videos(), SENTENCES)


def captioner(
    enters: tuple[str, ...] = ("first", "state"), layers: int = 1, seed: int = 0, **options: Any
) -> Captioner:
    sizes = {"hidden_size": 6, "embedding_size": 5}
    return Captioner.of(
        CAPTIONS, encoder=small(seed), enters=enters, layers=layers, seed=seed, **sizes, **options
    ).double()


def film_captioner(seed: int = 0, **options: Any) -> VideoCaptioner:
    sizes = {"hidden_size": 6, "embedding_size": 5}
    return VideoCaptioner.of(FILMS, image_shape=SHAPE, encoder=small(seed), seed=seed, **sizes, **options).double()


def small(seed: int = 0) -> ConvolutionalEncoder:
    return ConvolutionalEncoder(SHAPE, features=7, blocks=((3,), (4, 5)), seed=seed)


def by_hand(network: Captioner | VideoCaptioner, vector: Tensor, codes: list[int]) -> Tensor:
    """log p of one sentence by one call of torch's LSTM on x_{-1} (where it is) and all words."""
    decoder, layers = network.decoder, len(network.decoder.cell.state_shapes) // 2
    lstm = nn.LSTM(decoder.cell.input_size, decoder.cell.hidden_size, layers, batch_first=True).double()
    cells = decoder.cell.cells if layers > 1 else [decoder.cell]  # type: ignore[union-attr]
    for k, cell in enumerate(cells):  # type: ignore[arg-type]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(lstm, f"{name}_l{k}").data.copy_(getattr(cell.layer, f"{name}_l0"))  # type: ignore[union-attr]
    inputs = decoder.embed(torch.tensor([decoder.end, *codes]))
    state = None
    if "state" in decoder.enters:
        made = [layer(vector) for layer in decoder.starts]
        state = torch.stack(made[0::2]), torch.stack(made[1::2])
    if decoder.first is not None:
        inputs = torch.cat([decoder.first(vector).unsqueeze(0), inputs])
    if "input" in decoder.enters:
        inputs = torch.cat([inputs, vector.expand(len(inputs), -1)], dim=-1)
    h = lstm(inputs, state)[0][-len(codes) - 1 :]
    logs = decoder.head(h).log_softmax(-1)
    return logs[torch.arange(len(codes) + 1), torch.tensor([*codes, decoder.end])].sum()


def words() -> list[list[int]]:
    return [part.tolist() for part in SENTENCES.values.long().split(SENTENCES.lengths.tolist())]


@pytest.mark.parametrize("layers", (1, 2))
@pytest.mark.parametrize("enters", ENTERS, ids="+".join)
def test_captions_are_scored_as_by_torch(enters: tuple[str, ...], layers: int) -> None:
    network = captioner(enters, layers)
    with torch.no_grad():
        vectors = network.encoder(CAPTIONS.inputs)
        expected = torch.stack([by_hand(network, v, codes) for v, codes in zip(vectors, words(), strict=True)])
    torch.testing.assert_close(network.log_prob(CAPTIONS), expected, atol=1e-10, rtol=0.0)


def test_the_encoder_is_its_formula() -> None:
    """Convolution, ReLU and maximum by loops in numpy, on an image whose last row no block of two covers."""
    encoder = small().double()
    image = images(1)
    maps = image[0].numpy()
    layers = list(encoder.layers)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()  # type: ignore[union-attr]
            padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
            patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
            maps = np.einsum("oikl,ihwkl->ohw", weight, patches) + bias[:, None, None]
        elif isinstance(layer, nn.ReLU):
            maps = np.maximum(maps, 0.0)
        elif isinstance(layer, nn.MaxPool2d):
            high, wide = maps.shape[1] // 2, maps.shape[2] // 2
            maps = maps[:, : 2 * high, : 2 * wide].reshape(-1, high, 2, wide, 2).max((2, 4))
    linear = layers[-2]
    u = linear.weight.detach().numpy() @ maps.ravel() + linear.bias.detach().numpy()  # type: ignore[union-attr]
    expected = (u - u.mean()) / np.sqrt(u.var() + 1e-5)  # torch's LayerNorm: its eps is part of its formula
    np.testing.assert_allclose(encoder(image)[0].detach().numpy(), expected, atol=1e-10, rtol=0.0)


def test_a_video_is_the_mean_of_its_frames() -> None:
    network = film_captioner()
    assert network.decoder.enters == ("input",) and len(network.decoder.cell.state_shapes) == 4
    frames = FILMS.inputs.values.reshape(-1, *SHAPE).split(FILMS.inputs.lengths.tolist())  # type: ignore[union-attr]
    with torch.no_grad():
        vectors = [torch.stack([network.encoder(one.unsqueeze(0))[0] for one in film]).mean(0) for film in frames]
        expected = torch.stack([by_hand(network, v, codes) for v, codes in zip(vectors, words(), strict=True)])
    torch.testing.assert_close(network.log_prob(FILMS), expected, atol=1e-10, rtol=0.0)


@pytest.mark.parametrize(
    ("network", "data"), [(captioner(), CAPTIONS), (film_captioner(), FILMS)], ids=["image", "video"]
)
def test_the_company_of_others_changes_nothing(network: Any, data: Pairs) -> None:
    whole = network.log_prob(data)
    order = torch.tensor([3, 0, 4, 4, 2, 1])
    torch.testing.assert_close(network.log_prob(data.take(order)), whole[order], atol=1e-12, rtol=0.0)
    torch.testing.assert_close(network.log_prob(data, batch_size=1), whole, atol=1e-12, rtol=0.0)
    assert network.describe(data.inputs, batch_size=2) == network.describe(data.inputs)


@pytest.mark.parametrize(
    ("network", "data"), [(captioner(), CAPTIONS), (film_captioner(), FILMS)], ids=["image", "video"]
)
def test_the_program_is_the_score(network: Any, data: Pairs) -> None:
    loss = Trace_ELBO().loss(network.program, lambda data: None, data)
    assert loss == pytest.approx(-network.log_prob(data).sum().item(), abs=1e-9)
    trace = pyro.poutine.trace(network.program).get_trace(data)
    assert [name for name, site in trace.nodes.items() if site.get("is_observed")] == ["y"]
    assert f"{network.kind}$$$encoder.layers.0.weight" in trace.nodes


def test_sentences_found_have_the_score_that_they_say() -> None:
    network = captioner()
    for search in (Greedy(longest=6), Sampling(count=2, longest=6), Beam(width=3, best=2, longest=6)):
        found = network.hypotheses(CAPTIONS.inputs, search)
        for n, best in itertools.product(range(5), range(len(found[0]))):
            one = found[n][best]
            if not one.codes:
                continue
            values = torch.tensor(one.codes, dtype=torch.uint8)
            said = Sequences(values, torch.tensor([len(values)]), categories=network.vocabulary.names)
            again = network.log_prob(Pairs(CAPTIONS.inputs[n : n + 1], said))  # type: ignore[index]
            assert one.log_prob == pytest.approx(again.item(), abs=1e-10)


def test_looking_changes_neither_mode_nor_random_numbers() -> None:
    network = captioner(dropout=0.0).train()
    before = torch.random.get_rng_state()
    network.describe(CAPTIONS.inputs)
    network.log_prob(CAPTIONS)
    Captioner.of(CAPTIONS, dropout=0.3)
    assert network.training and torch.equal(torch.random.get_rng_state(), before)


def same_after_json(network: Network, data: Pairs) -> None:
    again = type(network).rebuild(json.loads(json.dumps(network.description()))).double()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again.log_prob(data), network.log_prob(data))


def test_networks_are_rebuilt_from_plain_values() -> None:
    same_after_json(captioner(("first", "state"), layers=2), CAPTIONS)
    same_after_json(film_captioner(), FILMS)


class Directions(Described, nn.Module):
    """A user's own encoder: the two-dimensional recurrent network, averaged over pixels."""

    kind = "directions-of-a-test"

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        self.sweeps = FourDirections(channels, size)

    def forward(self, seen: Tensor) -> Tensor:
        return self.sweeps(seen).mean((2, 3))


def test_any_module_from_images_to_vectors_encodes(tmp_path: Path) -> None:
    network = Captioner.of(CAPTIONS, encoder=Directions(2, 3), hidden_size=6, embedding_size=5)
    fit = train(network, CAPTIONS, epochs=3, batch_size=2, learning_rate=0.01)
    assert fit.curves["train"].iloc[-1] < fit.curves["train"].iloc[0]
    fit.save(tmp_path / "kept")
    again = NetworkFit.load(tmp_path / "kept")
    assert isinstance(again.network, Captioner) and isinstance(again.network.encoder, Directions)
    assert torch.equal(again.log_prob(CAPTIONS), fit.log_prob(CAPTIONS))

    plain = Captioner.of(CAPTIONS, encoder=nn.Sequential(nn.Flatten(), nn.Linear(144, 4)))
    assert plain.log_prob(Pairs(images().float(), SENTENCES)).shape == (5,)
    with pytest.raises(ModelError, match="must be Described to be saved, got Sequential"):
        plain.description()


def test_a_few_captions_are_learned_by_heart() -> None:
    network = Captioner.of(CAPTIONS, hidden_size=16, encoder=small(), enters=("first", "state"))
    fit = train(network, CAPTIONS, epochs=60, batch_size=5, learning_rate=0.02, patience=None)
    assert isinstance(fit.network, Captioner)
    assert fit.network.describe(CAPTIONS.inputs) == SAID.split("\n")


def test_training_starts_from_how_often_words_occur() -> None:
    network = captioner()
    network.prepare(CAPTIONS)
    counts = np.bincount(SENTENCES.values.numpy(), minlength=network.vocabulary.size)
    expected = np.array([*counts, SENTENCES.count]) + 1.0
    np.testing.assert_allclose(network.decoder.head.bias.detach().exp(), expected / expected.sum(), rtol=1e-6)


# ---- from captions to videos ----------------------------------------------------------------------------------------


def test_a_video_of_one_frame_is_told_as_its_image() -> None:
    network = captioner(("input",), layers=2, seed=3)
    video = transferred(network, film_captioner())
    frames = Pairs(Sequences.from_arrays([one.reshape(1, -1) for one in images()]), SENTENCES)
    torch.testing.assert_close(video.log_prob(frames), network.log_prob(CAPTIONS), atol=1e-12, rtol=0.0)


def test_what_is_transferred_is_what_was_asked_for() -> None:
    source, target = captioner(("input",), layers=2, seed=3), film_captioner()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    for parts in (("encoder",), ("decoder",), ("encoder", "decoder")):
        found = transferred(source, target, parts).state_dict()
        for name, value in found.items():
            origin = source.state_dict() if name.split(".")[0] in parts else before
            assert torch.equal(value, origin[name]), name
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_words_are_transferred_by_name() -> None:
    """The videos' sentences lack one word of the captions and have one of their own: order and size differ."""
    text = "a dot\na line below a dot\nnothing\na line\na dot"
    films = Pairs(FILMS.inputs, Sequences.from_text(text=text, level="word", separator="\n"))
    first = VideoCaptioner.of(films, image_shape=SHAPE, encoder=small(), hidden_size=6, embedding_size=5).double()
    source = captioner(("input",), layers=2, seed=3)
    video = transferred(source, first)
    assert set(video.vocabulary.names) - set(source.vocabulary.names) == {"below"}
    for name in ("embed.weight", "head.weight", "head.bias"):
        learned, begun, found = (one.decoder.state_dict()[name] for one in (source, first, video))
        assert torch.equal(found[-1], learned[-1])  # start and end
        for k, word in enumerate(video.vocabulary.names):
            same = learned[source.vocabulary.names.index(word)] if word != "below" else begun[k]
            assert torch.equal(found[k], same), word


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (dict(layers=1), "the decoder must be of the same make"),
        (dict(enters=("input", "state")), "the decoder must be of the same make"),
        (dict(cell="gru"), "the decoder must be of the same size"),
    ],
    ids=["layers", "enters", "cell"],
)
def test_networks_of_another_make_are_not_transferred(other: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        transferred(captioner(("input",), layers=2), film_captioner(**other))


def test_an_unknown_part_is_not_transferred() -> None:
    with pytest.raises(ModelError, match="parts must be of encoder, decoder, got"):
        transferred(captioner(("input",), layers=2), film_captioner(), ("eyes",))


# ---- what does not fit ----------------------------------------------------------------------------------------------


def test_data_that_do_not_fit_are_refused() -> None:
    network, video = captioner(), film_captioner()
    with pytest.raises(DataError, match=r"images must be a tensor \(N, 2, 9, 8\), got \(5, 2, 8, 8\)"):
        network.log_prob(Pairs(torch.zeros(5, 2, 8, 8), SENTENCES))
    broken = images()
    broken[3, 0, 2, 2] = torch.nan
    with pytest.raises(DataError, match="NaN or infinity at image 3"):
        network.log_prob(Pairs(broken, SENTENCES))
    with pytest.raises(DataError, match="videos must be Sequences with 144 columns"):
        video.log_prob(CAPTIONS)
    other = Sequences.from_text(text="a dot\na\na\na\na cat", level="word", separator="\n")
    with pytest.raises(DataError, match="must be one of the 5 that the network knows, got 'cat' at sentence 4"):
        network.log_prob(Pairs(images(), other))
    with pytest.raises(DataError, match="targets must be Sequences of words"):
        network.log_prob(Pairs(images(), torch.zeros(5)))


def test_parts_that_do_not_fit_are_refused() -> None:
    whole = captioner()
    with pytest.raises(ModelError, match="vector of 7 numbers.*got vector_size 9"):
        Captioner(small(), _decoder(9), SHAPE, whole.vocabulary)
    with pytest.raises(ModelError, match="a symbol for each of 2 words, got 5"):
        Captioner(small(), whole.decoder, SHAPE, Vocabulary(("a", "dot")))
    with pytest.raises(ModelError, match="must turn images"):
        Captioner.of(CAPTIONS, encoder=nn.Conv2d(2, 3, 3))
    with pytest.raises(ModelError, match="image_shape must be given where frames come flat"):
        VideoCaptioner.of(FILMS)
    with pytest.raises(ModelError, match="at least 16 pixels"):
        ConvolutionalEncoder((1, 20, 12), blocks=((4,), (4,), (4,), (4,)))


def _decoder(vector_size: int) -> Decoder:
    return Decoder(5, 5, cell_by_name("lstm", 5, 6), vector_size=vector_size, enters=("state",))
