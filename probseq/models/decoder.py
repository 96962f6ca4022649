"""A decoder: sentences given whatever a vector, a state or a memory say of them.

    p(y_1..y_T | v) = prod_{t=1}^{T+1} p(y_t | v, y_<t),   y_0 the start and y_{T+1} the end symbol,

with p(y_t | v, y_<t) = softmax(W h_t + b) and h_t of a recurrent cell that reads y_{t-1} (Sutskever, Vinyals & Le 2014;
Cho et al. 2014). v can be the cell's first state, a part of every input (Cho et al.), an input x_{-1} before the start
symbol (Vinyals et al. 2015), several of these, and a memory that every step attends to (Luong et al. 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probseq.errors import DataError, ModelError
from probseq.models.attention import Attention
from probseq.recurrent import Cell, Ragged, State, weights_of_seed
from probseq.recurrent.described import Described

WAYS = ("state", "input", "first")
"""How a vector enters: as the first state, as a part of every input, as the input before the start symbol."""


@dataclass(frozen=True, eq=False)
class Given:
    """What a batch of B sentences is generated from; at least one of these.

    Args:
        vector: (B, V), v, which enters as the decoder says.
        state: the cell's, before the first step.
        memory: (B, S, G), to attend to.
        mask: (B, S) bool, True where there is memory, at least once in each row; None where all is.
    """

    vector: Tensor | None = None
    state: State | None = None
    memory: Tensor | None = None
    mask: Tensor | None = None

    @property
    def count(self) -> int:
        """B."""
        for part in (self.vector, self.memory, *(self.state or ())):
            if part is not None:
                return len(part)
        raise DataError("sentences must be given something, got no vector, state or memory at Given; give one.")

    def take(self, index: Tensor) -> Given:
        """The sentences of these numbers, in this order; a repeat repeats."""
        vector, memory, mask = (None if one is None else one[index] for one in (self.vector, self.memory, self.mask))
        state = None if self.state is None else tuple(one[index] for one in self.state)
        return Given(vector, state, memory, mask)


class Decoder(Described, nn.Module):
    """Laws of sentences of the symbols 0..M-1; code M is the start symbol where it is read and the end where written.

    Args:
        symbols: M.
        embedding_size: E, numbers that stand for a symbol.
        cell: reads E numbers, and V more where the vector is a part of every input.
        vector_size: V, numbers in v; 0 for none.
        enters: the ways in which v enters, of "state", "input" and "first".
        memory_size: G, numbers at each place of the memory; 0 is without attention.
        seed: of the first weights.

    >>> from probseq.recurrent import GRU
    >>> decoder = Decoder(5, 4, GRU(4, 8), vector_size=3, enters=("state",))
    >>> sentences = Ragged(torch.tensor([0, 1, 5, 2, 5]), torch.tensor([3, 2]))  # each with its end
    >>> decoder.log_prob(Given(torch.zeros(2, 3)), sentences).shape
    torch.Size([2])
    """

    kind = "decoder"

    def __init__(
        self,
        symbols: int,
        embedding_size: int,
        cell: Cell,
        *,
        vector_size: int = 0,
        enters: Sequence[str] = (),
        memory_size: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.symbols, self.embedding_size = symbols, embedding_size
        self.vector_size, self.enters, self.memory_size = vector_size, tuple(enters), memory_size
        self._check(cell)
        with weights_of_seed(seed):
            self.embed = nn.Embedding(symbols + 1, embedding_size)
            self.head = nn.Linear(cell.hidden_size, symbols + 1)
            starts = cell.state_shapes if "state" in enters else ()
            self.starts = nn.ModuleList(nn.Linear(vector_size, torch.Size(shape).numel()) for shape in starts)
            self.first = nn.Linear(vector_size, embedding_size) if "first" in enters else None
        self.cell = cell
        self.attention = Attention(cell.hidden_size, memory_size, seed + 1) if memory_size else None

    @property
    def end(self) -> int:
        """M, the code of the end symbol, and of the start symbol where it is read."""
        return self.symbols

    # ---- a known sentence ------------------------------------------------------------------------------------------

    def log_prob(self, given: Given, sentences: Ragged) -> Tensor:
        """(B,) float64 nats: log p of the symbols of each sentence, its end among them where it has one.

        What has no end symbol is scored as the beginning of a sentence.
        """
        logs = self.logits(given, sentences).log_softmax(dim=-1)
        found = logs.gather(-1, sentences.values.long().unsqueeze(-1)).squeeze(-1)
        row = torch.arange(sentences.count).repeat_interleave(sentences.lengths).to(found.device)
        return found.new_zeros(sentences.count).index_add(0, row, found)

    def logits(self, given: Given, sentences: Ragged) -> Tensor:
        """(T, M + 1) float64: of each symbol in turn, given those before it in its sentence."""
        read = sentences.padded().long()
        start = read.new_full((len(read), 1), self.end)
        inputs = self.embed(torch.cat([start, read], dim=1)[:, : read.shape[1]])
        before = self.before(given)
        inputs = self._with_vector(inputs, given)
        h, _ = self.cell.unroll(inputs, sentences.lengths, before)
        return self.head(sentences.flat(self._attend(h, given))).double()

    def with_end(self, sentences: Ragged) -> Ragged:
        """Each sentence with the end symbol after it.

        >>> from probseq.recurrent import GRU
        >>> Decoder(5, 4, GRU(4, 8)).with_end(Ragged(torch.tensor([0, 1, 2]), torch.tensor([2, 1]))).values.tolist()
        [0, 1, 5, 2, 5]
        """
        lengths = sentences.lengths + 1
        values = torch.full((int(lengths.sum()),), self.end, dtype=torch.int64, device=sentences.values.device)
        kept = torch.ones(len(values), dtype=torch.bool)
        kept[lengths.cumsum(0) - 1] = False
        values[kept.to(values.device)] = sentences.values.long()
        return Ragged(values, lengths)

    def prepare(self, sentences: Ragged) -> None:
        """Let the head begin at how often each symbol occurs (and once more) in sentences with their ends; in place."""
        counts = torch.bincount(sentences.values.long().cpu(), minlength=self.symbols + 1) + 1.0
        with torch.no_grad():
            self.head.bias.copy_((counts / counts.sum()).log())

    # ---- a sentence to be found ------------------------------------------------------------------------------------

    def before(self, given: Given) -> State:
        """The cell's state before it reads the start symbol."""
        self._check_given(given)
        state = given.state
        if self.starts:
            made = zip(self.starts, self.cell.state_shapes, strict=True)
            state = tuple(layer(given.vector).reshape(-1, *shape) for layer, shape in made)
        if self.first is not None:
            first = self._with_vector(self.first(given.vector).unsqueeze(1), given)
            _, state = self.cell.unroll(first, None, state)
        return self.cell.start(given.count) if state is None else state

    def step(self, codes: Tensor, state: State, given: Given) -> tuple[Tensor, State]:
        """The law of the next symbol: codes (B,) just read, the start symbol's first, to log p (B, M + 1) float64."""
        inputs = self._with_vector(self.embed(codes).unsqueeze(1), given)
        h, state = self.cell.unroll(inputs, None, state)
        return self.head(self._attend(h, given)[:, 0]).double().log_softmax(dim=-1), state

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _with_vector(self, inputs: Tensor, given: Given) -> Tensor:
        if "input" not in self.enters or given.vector is None:
            return inputs
        return torch.cat([inputs, given.vector.unsqueeze(1).expand(-1, inputs.shape[1], -1)], dim=-1)

    def _attend(self, h: Tensor, given: Given) -> Tensor:
        if self.attention is None or given.memory is None:
            return h
        everywhere = torch.ones(given.memory.shape[:2], dtype=torch.bool, device=h.device)
        return self.attention(h, given.memory, everywhere if given.mask is None else given.mask)

    def _check(self, cell: Cell) -> None:
        where = "Decoder"
        if self.symbols < 1 or self.embedding_size < 1:
            raise ModelError(
                f"symbols and embedding_size must be at least 1, got {self.symbols} and {self.embedding_size} at "
                f"{where}; give the number of symbols and of numbers that stand for each."
            )
        strange = [way for way in self.enters if way not in WAYS]
        if strange:
            raise ModelError(
                f"enters must be of {', '.join(WAYS)}, got {strange[0]!r} at {where}; choose among the three."
            )
        if bool(self.vector_size) != bool(self.enters):
            raise ModelError(
                f"a vector must have a size and a way to enter, got vector_size {self.vector_size} and enters "
                f"{self.enters} at {where}; give both or neither."
            )
        width = self.embedding_size + (self.vector_size if "input" in self.enters else 0)
        if cell.input_size != width:
            raise ModelError(
                f"the cell's input_size must be {width}, the embedding and the vector where it is a part of every "
                f"input, got {cell.input_size} at {where}; make the cell with {width} inputs."
            )

    def _check_given(self, given: Given) -> None:
        size = None if given.vector is None else given.vector.shape[-1]
        if size != (self.vector_size or None):
            raise DataError(
                f"the vector given must have {self.vector_size or 'no'} numbers, got {size or 'none'} at Decoder; "
                "give what the decoder was made for."
            )
        if "state" in self.enters and given.state is not None:
            raise DataError("the first state must come from the vector, got a state too at Decoder; leave it out.")
        if (given.memory is None) != (self.attention is None):
            got = "none" if given.memory is None else "one"
            raise DataError(
                f"a memory must be given if and only if memory_size is, got {got} at Decoder with memory_size "
                f"{self.memory_size}; give what the decoder was made for."
            )
