"""What captions of images and sentences about videos share: a vector of what is seen, and a decoder that tells it.

p(sentence | seen) = prod_t p(y_t | v(seen), y_<t),   v made by an encoder of images, the rest by a `Decoder`
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from probseq.errors import DataError, ModelError
from probseq.models.decoder import Decoder, Given
from probseq.models.image_encoder import (
    ConvolutionalEncoder,
    describe_encoder,
    features_of,
    shape_of_image,
)
from probseq.models.network import Network, Scored, answering
from probseq.models.sentence_search import Greedy, Hypothesis, Search
from probseq.models.vocabulary import Vocabulary
from probseq.pairs import Pairs
from probseq.recurrent import Ragged, State, cell_by_name
from probseq.recurrent.described import Described
from probseq.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Told:
    """What is seen, with what is said of it.

    Attributes:
        seen: images (N, C, H, W), or videos of frames (T, C, H, W).
        sentences: N, each with its end symbol.
    """

    seen: Tensor | Ragged
    sentences: Ragged

    @property
    def lengths(self) -> Tensor:
        """(N,) words of each sentence, with its end."""
        return self.sentences.lengths

    def take(self, index: Tensor) -> Told:
        """The examples of these numbers, in this order."""
        return Told(taken(self.seen, index), self.sentences.take(index))

    def to(self, device: torch.device | str) -> Told:
        """The same on another device."""
        return Told(self.seen.to(device), self.sentences.to(device))


class Describer(Network):
    """Sentences about what is seen.

    Args:
        encoder: any module from images (B, C, H, W) to vectors (B, E); to be saved it must be `Described`.
        decoder: of as many symbols as there are words, given vectors of E numbers and no memory.
        image_shape: (C, H, W).
        vocabulary: the words that it can say.
    """

    def __init__(
        self, encoder: nn.Module, decoder: Decoder, image_shape: Sequence[int], vocabulary: Vocabulary
    ) -> None:
        super().__init__()
        self.image_shape, self.vocabulary = shape_of_image(image_shape), vocabulary
        self.encoder, self.decoder = encoder, decoder
        features, where = features_of(encoder, self.image_shape), type(self).__name__
        if decoder.vector_size != features or decoder.memory_size:
            raise ModelError(
                f"the decoder must be given a vector of {features} numbers, as the encoder makes it, and no memory, got"
                f" vector_size {decoder.vector_size} and memory_size {decoder.memory_size} at {where}; make it so."
            )
        if decoder.symbols != vocabulary.size:
            raise ModelError(
                f"the decoder must have a symbol for each of {vocabulary.size} words, got {decoder.symbols} at {where};"
                " make it so."
            )

    @classmethod
    def of(
        cls,
        data: Pairs,
        *,
        image_shape: Sequence[int] | None = None,
        encoder: nn.Module | None = None,
        enters: Sequence[str] = ("first",),
        cell: str = "lstm",
        layers: int = 1,
        hidden_size: int = 128,
        embedding_size: int = 64,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> Self:
        """A network for data like these.

        Args:
            data: what is seen, and sentences with their words as categories.
            image_shape: (C, H, W); None takes that of the images, and must be given for frames, which come flat.
            encoder: None makes a `ConvolutionalEncoder` with 64 features.
            enters: how the vector enters the decoder: "first", as the input x_{-1} before the start symbol (Vinyals et
                al. 2015); "state", as h_0 (Karpathy & Fei-Fei 2015); "input", at every step (Venugopalan et al. 2015);
                or several of these.
            cell: of the decoder, by name.
            layers: of cells on top of each other.
            hidden_size: H, of each layer.
            embedding_size: numbers that stand for a word.
            dropout: between layers, and before the encoder's last map where none is given; in training only.
            seed: of the first weights.
        """
        if image_shape is None:
            if not isinstance(data.inputs, Tensor):
                raise ModelError("image_shape must be given where frames come flat, got None; give (C, H, W).")
            image_shape = tuple(data.inputs.shape[1:])
        shape = shape_of_image(image_shape)
        encoder = ConvolutionalEncoder(shape, dropout=dropout, seed=seed) if encoder is None else encoder
        words = Vocabulary.of(_sentences(data.targets))
        features = features_of(encoder, shape)
        width = embedding_size + (features if "input" in enters else 0)
        options: dict[str, Any] = {"dropout": dropout} if layers > 1 else {}
        reader = cell_by_name(cell, width, hidden_size, layers=layers, seed=seed + 1, **options)
        decoder = Decoder(
            words.size, embedding_size, reader, vector_size=features, enters=enters, seed=seed + 1 + layers
        )
        return cls(encoder, decoder, shape, words)

    # ---- the law ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def see(self, inputs: Any) -> Tensor | Ragged:
        """What is seen as the network takes it, or a DataError."""

    @abstractmethod
    def vectors(self, seen: Any) -> Tensor:
        """v (B, E)."""

    def encode(self, data: Pairs) -> Told:
        """What is seen, and the sentences with their ends.

        Raises:
            DataError: images of another shape, or frames or words that are missing or not known.
        """
        words = self.vocabulary.codes(_sentences(data.targets), "the targets")
        return Told(self.see(data.inputs), self.decoder.with_end(words))

    def score(self, examples: Told, state: State | None = None) -> Scored:
        """log p of each sentence and its end, given what is seen."""
        given = Given(vector=self.vectors(examples.seen))
        return Scored(self.decoder.log_prob(given, examples.sentences), examples.lengths)

    def program(self, data: Pairs) -> None:
        """The Pyro program: `y` are all words of the sentences, each with its end, one after the other."""
        pyro.module(self.kind, self)
        examples = self.encode(data)
        logits = self.decoder.logits(Given(vector=self.vectors(examples.seen)), examples.sentences)
        with pyro.plate("symbol", len(logits)):
            pyro.sample("y", dist.Categorical(logits=logits), obs=examples.sentences.values)

    def prepare(self, data: Pairs) -> None:
        """Let the decoder begin at how often each word occurs."""
        self.decoder.prepare(self.encode(data).sentences)

    # ---- answers ---------------------------------------------------------------------------------------------------

    def hypotheses(self, inputs: Any, search: Search | None = None, batch_size: int = 256) -> list[list[Hypothesis]]:
        """For each of N, the sentences that a search finds, best first; see `Greedy`, `Sampling` and `Beam`."""
        search = Greedy() if search is None else search
        seen = self.see(inputs).to(self.decoder.head.weight.device)
        count = seen.count if isinstance(seen, Ragged) else len(seen)
        found = []
        with answering(self):
            for number, index in enumerate(torch.arange(count).split(batch_size)):
                given = Given(vector=self.vectors(taken(seen, index)))
                found += search.of_batch(number).find(self.decoder, given)
        return found

    def describe(self, inputs: Any, search: Search | None = None, batch_size: int = 256) -> list[str]:
        """The best sentence for each of N, as text; without a search, the greedy one."""
        found = self.hypotheses(inputs, search, batch_size)
        return [self.vocabulary.text(best.codes) for best, *_ in found]

    # ---- files -----------------------------------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        """Encoder, decoder, shape and words."""
        return {
            "encoder": describe_encoder(self.encoder),
            "decoder": self.decoder.description(),
            "image_shape": list(self.image_shape),
            "vocabulary": self.vocabulary.description(),
        }

    @classmethod
    def rebuild(cls, description: dict[str, Any]) -> Self:
        """The network that `description` describes; an encoder of the user's own must have been imported."""
        encoder: Any = Described.rebuild(description["encoder"])
        decoder = Decoder.rebuild(description["decoder"])
        vocabulary = Vocabulary.described(description["vocabulary"])
        return cls(encoder, decoder, description["image_shape"], vocabulary)


def taken(seen: Tensor | Ragged, index: Tensor) -> Tensor | Ragged:
    """Of these numbers, in this order."""
    return seen.take(index) if isinstance(seen, Ragged) else seen[index.to(seen.device)]


def _sentences(targets: Any) -> Sequences:
    if not isinstance(targets, Sequences):
        raise DataError(
            f"targets must be Sequences of words, got {type(targets).__name__}; read them with "
            "Sequences.from_text(..., level='word')."
        )
    return targets
