"""Small decoders, and every sentence that they can write."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from probseq.models.decoder import Decoder, Given
from probseq.recurrent import GRU, LSTM, Cell, Ragged, Stacked

WAYS = [(), ("state",), ("input",), ("first",), ("state", "input", "first")]


def small_decoder(
    ways: tuple[str, ...] = ("state",), *, memory: bool = False, symbols: int = 3, seed: int = 0
) -> Decoder:
    """Two layers, float64, far from uniform."""
    width = 2 + (3 if "input" in ways else 0)
    cell: Cell = Stacked([LSTM(width, 4, seed=seed), GRU(4, 4, seed=seed + 1)])
    size = 3 if ways else 0
    decoder = Decoder(symbols, 2, cell, vector_size=size, enters=ways, memory_size=5 if memory else 0, seed=seed)
    with torch.no_grad():
        decoder.head.weight.mul_(5)
    return decoder.double()


def something_given(decoder: Decoder, count: int = 4, seed: int = 0) -> Given:
    """Vectors, and memories of 1, 2, 3, ... places."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return 2 * torch.randn(shape, generator=generator, dtype=torch.float64)

    state = None if decoder.enters else tuple(normal(count, *shape) for shape in decoder.cell.state_shapes)
    vector = normal(count, decoder.vector_size) if decoder.enters else None
    if not decoder.memory_size:
        return Given(vector, state)
    mask = torch.arange(count) <= torch.arange(count).unsqueeze(-1)
    return Given(vector, state, normal(count, count, decoder.memory_size), mask)


def every_sentence(symbols: int, longest: int, shortest: int = 0) -> list[tuple[int, ...]]:
    """All of at most `longest` symbols, without their ends."""
    lengths = range(shortest, longest + 1)
    return [codes for length in lengths for codes in itertools.product(range(symbols), repeat=length)]


def ragged(sentences: list[tuple[int, ...]]) -> Ragged:
    flat = [code for sentence in sentences for code in sentence]
    return Ragged(torch.tensor(flat, dtype=torch.int64), torch.tensor([len(sentence) for sentence in sentences]))
