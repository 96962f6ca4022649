"""Sequence to sequence (Sutskever, Vinyals & Le 2014; Cho et al. 2014): a sentence read, then a sentence written.

    v = the state of a recurrent encoder after x_1..x_S,   p(y | x) = p(y | v) of a `Decoder`

x is read backwards where `reverse` says so, which puts its first words near the first words to be written; and with
attention every step of the decoder also sees the encoder's outputs (Luong, Pham & Manning 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from probseq.errors import DataError, ModelError
from probseq.io.parallel import read_sentences
from probseq.models.beam_search import Beam
from probseq.models.decoder import Decoder, Given
from probseq.models.network import Network, Scored, answering
from probseq.models.sentence_search import Hypothesis, Search
from probseq.models.vocabulary import Vocabulary, reversed_order
from probseq.pairs import Pairs
from probseq.recurrent import LSTM, Ragged, RecurrentLayer, Stacked, State, weights_of_seed
from probseq.sequences import Sequences

BATCH = 64
"""Sentences that are translated at once."""


@dataclass(frozen=True, eq=False)
class SentencePairs:
    """N pairs of sentences as codes.

    Args:
        source: in the order in which they are read.
        target: each with its end symbol.
    """

    source: Ragged
    target: Ragged

    @property
    def lengths(self) -> Tensor:
        """(N,) symbols read and written."""
        return self.source.lengths + self.target.lengths

    def take(self, index: Tensor) -> SentencePairs:
        """The pairs of these numbers, in this order."""
        return SentencePairs(self.source.take(index), self.target.take(index))

    def to(self, device: torch.device | str) -> SentencePairs:
        """The same on another device."""
        return SentencePairs(self.source.to(device), self.target.to(device))


class SequenceToSequence(Network):
    """p(target sentence | source sentence); a pair's log-probability is exact, its end symbol counted.

    A source word that is not known is read as "<rare>", if that is in the vocabulary (`rare=2` when reading puts it
    there), and as a vector of zeros otherwise.

    Args:
        source: the symbols that are read.
        target: the symbols that are written.
        encoder: reads E numbers, those that stand for a source symbol.
        decoder: of as many symbols as the target has. It starts from the encoder's last state; where it takes a
            vector, that is all numbers of this state, and where it takes a memory, that is the encoder's outputs.
        reverse: read the source from its last symbol to its first.
        seed: of the first embedding.

    >>> from probseq.io.parallel import read_parallel
    >>> pairs = read_parallel(text="one cat\\tun chat\\none dog\\tun chien\\n")
    >>> network = SequenceToSequence.of(pairs, hidden_size=8)
    >>> network.log_prob(pairs).shape
    torch.Size([2])
    """

    kind = "sequence_to_sequence"

    def __init__(
        self,
        source: Vocabulary,
        target: Vocabulary,
        encoder: RecurrentLayer,
        decoder: Decoder,
        *,
        reverse: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.source, self.target, self.reverse = source, target, reverse
        _check_sizes(target, encoder, decoder)
        with weights_of_seed(seed):
            self.embed = nn.Embedding(source.size + 1, encoder.input_size)
        with torch.no_grad():
            self.embed.weight[source.size] = 0.0  # of a symbol that was never seen
        self.encoder, self.decoder = encoder, decoder

    @classmethod
    def of(
        cls,
        pairs: Pairs,
        *,
        hidden_size: int = 128,
        layers: int = 1,
        embedding_size: int = 64,
        reverse: bool = True,
        attention: bool = False,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> SequenceToSequence:
        """Stacks of LSTM cells for the words, or characters, of these pairs.

        Args:
            pairs: of sentences, as `read_parallel` reads them.
            hidden_size: of each cell.
            layers: cells on top of each other, in the encoder and in the decoder.
            embedding_size: numbers that stand for a symbol.
            reverse: read the source backwards.
            attention: let the decoder see the encoder's outputs.
            dropout: between layers, in training.
            seed: of the first weights.
        """
        source, target = (Vocabulary.of(side) for side in _sentences(pairs))
        seeds = iter(range(1000 * seed, 1000 * seed + 1000))

        def stack() -> Stacked:
            sizes = [embedding_size] + [hidden_size] * layers
            cells = [LSTM(below, own, seed=next(seeds)) for below, own in zip(sizes, sizes[1:], strict=False)]
            return Stacked(cells, dropout)

        memory = hidden_size if attention else 0
        decoder = Decoder(target.size, embedding_size, stack(), memory_size=memory, seed=next(seeds))
        return cls(source, target, stack(), decoder, reverse=reverse, seed=next(seeds))

    # ---- a network -------------------------------------------------------------------------------------------------

    def encode(self, data: Pairs) -> SentencePairs:
        """Pairs of sentences, of these vocabularies or of others with words in common."""
        source, target = _sentences(data)
        ended = self.decoder.with_end(self.target.codes(target, "the targets"))
        return SentencePairs(self.encode_source(source), ended)

    def encode_source(self, sentences: Sequences) -> Ragged:
        """Sentences in the order in which they are read."""
        codes = self.source.codes(sentences, "the sources", unknown=self.source.size)
        return reversed_order(codes) if self.reverse else codes

    def score(self, examples: SentencePairs, state: State | None = None) -> Scored:
        """log p(target | source) of each pair; its steps are the target's symbols and its end."""
        log_prob = self.decoder.log_prob(self.given(examples.source), examples.target)
        return Scored(log_prob, examples.target.lengths)

    def program(self, data: Pairs) -> None:
        """The Pyro program: `y` are all symbols of the targets, each with its end, one after the other."""
        pyro.module(self.kind, self)
        examples = self.encode(data)
        logits = self.decoder.logits(self.given(examples.source), examples.target)
        with pyro.plate("symbol", len(logits)):
            pyro.sample("y", dist.Categorical(logits=logits), obs=examples.target.values)

    def prepare(self, data: Pairs) -> None:
        """Let the decoder begin at the frequencies of the target's symbols."""
        self.decoder.prepare(self.encode(data).target)

    def description(self) -> dict[str, Any]:
        return {
            "source": self.source.description(),
            "target": self.target.description(),
            "encoder": self.encoder.description(),
            "decoder": self.decoder.description(),
            "reverse": self.reverse,
        }

    @classmethod
    def rebuild(cls, description: dict[str, Any]) -> SequenceToSequence:
        source, target = (Vocabulary.described(description[name]) for name in ("source", "target"))
        encoder = RecurrentLayer.rebuild(description["encoder"])
        decoder = Decoder.rebuild(description["decoder"])
        return cls(source, target, encoder, decoder, reverse=description["reverse"])

    # ---- translation -----------------------------------------------------------------------------------------------

    def final_state(self, source: Ragged) -> tuple[Tensor, State]:
        """The encoder's outputs (B, S, G) and its state after each sentence."""
        return self.encoder.unroll(self.embed(source.padded()), source.lengths)

    def given(self, source: Ragged) -> Given:
        """What the decoder is given of sentences, in the order in which they are read."""
        outputs, state = self.final_state(source)
        attends = self.decoder.attention is not None
        memory, mask = (outputs, source.mask.to(outputs.device)) if attends else (None, None)
        vector = torch.cat([one.flatten(1) for one in state], dim=1) if self.decoder.vector_size else None
        return Given(vector, None if "state" in self.decoder.enters else self._fitting(state), memory, mask)

    def find(self, sentences: Sequences, search: Search) -> list[list[Hypothesis]]:
        """For each sentence what the search finds, best first."""
        source, device = self.encode_source(sentences), self.embed.weight.device
        found: list[list[Hypothesis]] = [[] for _ in range(source.count)]
        for number, chosen in enumerate(source.lengths.argsort(stable=True).split(BATCH)):
            with answering(self):
                given = self.given(source.take(chosen).to(device))
            sentences_found = search.of_batch(number).find(self.decoder, given)
            for row, hypotheses in zip(chosen.tolist(), sentences_found, strict=True):
                found[row] = hypotheses
        return found

    def translate(self, sentences: Sequence[str] | Sequences, search: Search | None = None) -> pd.DataFrame:
        """Translations as text.

        Args:
            sentences: a text each, or as symbols.
            search: how to find them; None is `Beam()`, a beam of 5 that ranks by log p.

        Returns:
            A row for each sentence and rank: `source`, its number from 0; `rank` from 1; `translation`; `log_prob`,
            log p(translation | sentence) in nats; `score`, by which they are ranked; `cut`, whether the translation
            has the most symbols allowed; `unknown`, the symbols of the sentence that are not known.
        """
        if not isinstance(sentences, Sequences):
            sentences = read_sentences(sentences, self.source.level)
        unknown = self.source.unknown(sentences)
        rows = [
            (number, rank, self.target.text(one.codes), one.log_prob, one.score, one.cut, unknown[number])
            for number, found in enumerate(self.find(sentences, Beam() if search is None else search))
            for rank, one in enumerate(found, start=1)
        ]
        return pd.DataFrame(rows, columns=["source", "rank", "translation", "log_prob", "score", "cut", "unknown"])

    def _fitting(self, state: State) -> State | None:
        """The encoder's state where it is also one of the decoder's cell."""
        own = tuple(tuple(one.shape[1:]) for one in state)
        return state if own == tuple(self.decoder.cell.state_shapes) else None


def _sentences(pairs: Pairs) -> tuple[Sequences, Sequences]:
    if not (isinstance(pairs, Pairs) and isinstance(pairs.inputs, Sequences) and isinstance(pairs.targets, Sequences)):
        raise DataError(
            f"translation must be learned from Pairs of sentences, got {pairs!r:.80}; read them with read_parallel, or "
            "give Pairs(Sequences, Sequences)."
        )
    return pairs.inputs, pairs.targets


def _check_sizes(target: Vocabulary, encoder: RecurrentLayer, decoder: Decoder) -> None:
    numbers = sum(torch.Size(shape).numel() for shape in encoder.state_shapes)
    for what, right, got in (
        ("symbols of the decoder", target.size, decoder.symbols),
        ("vector_size of the decoder", decoder.vector_size and numbers, decoder.vector_size),
        ("memory_size of the decoder", decoder.memory_size and encoder.hidden_size, decoder.memory_size),
    ):
        if got != right:
            raise ModelError(f"{what} must be {right}, got {got} at SequenceToSequence; make the decoder with {right}.")
    if not decoder.vector_size and encoder.state_shapes != decoder.cell.state_shapes:
        raise ModelError(
            f"the encoder's state must be one of the decoder's cell, {decoder.cell.state_shapes}, got "
            f"{encoder.state_shapes} at SequenceToSequence; make the two alike, or the decoder with "
            f"vector_size={numbers} and enters=('state',)."
        )
