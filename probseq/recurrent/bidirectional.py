"""Past and future at once (Schuster & Paliwal, 1997): g_t of x_1..x_t and h_t of x_t..x_T, side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from probseq.errors import ModelError
from probseq.recurrent.cell import Cell
from probseq.recurrent.layer import RecurrentLayer, State


class Bidirectional(RecurrentLayer):
    """Two cells, one forward from the first step and one backward from each sequence's own last; not causal.

    The output is (g_t, h_t). The state given is that of the forward cell before the first step and that of the
    backward cell after the last; the state returned is the forward cell's after the last step, then the backward
    cell's after the first.

    Args:
        past: makes g_t from x_1..x_t.
        future: makes h_t from x_T..x_t.

    >>> from probseq.recurrent import GRU
    >>> both = Bidirectional(GRU(2, 3, seed=0), GRU(2, 3, seed=1))
    >>> both.unroll(torch.zeros(1, 5, 2))[0].shape
    torch.Size([1, 5, 6])
    """

    kind = "bidirectional"

    def __init__(self, past: Cell, future: Cell) -> None:
        super().__init__()
        if past.input_size != future.input_size:
            raise ModelError(
                f"input_size must be the same for both cells, got {past.input_size} and {future.input_size} at "
                "Bidirectional; both read the same sequence."
            )
        if past is future:
            raise ModelError("cells must be two, got one and the same at Bidirectional; make another for the future.")
        self.past = past
        self.future = future
        self.input_size = past.input_size
        self.hidden_size = past.hidden_size + future.hidden_size

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.past.state_shapes + self.future.state_shapes

    def unroll(self, inputs: Tensor, lengths: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        """All steps in both directions; see `RecurrentLayer.unroll`."""
        lengths, state = self.admit(inputs, lengths, state)
        own = len(self.past.state_shapes)
        g, after_last = self.past.unroll(inputs, lengths, state[:own])
        h, before_first = self.future.unroll(reverse(inputs, lengths), lengths, state[own:])
        return torch.cat((g, reverse(h, lengths)), dim=-1), after_last + before_first


def reverse(padded: Tensor, lengths: Tensor | None) -> Tensor:
    """The steps of each sequence of (B, L, ...) from its last to its first; what pads it stays where it is.

    >>> reverse(torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2])).tolist()
    [[3, 2, 1], [5, 4, 0]]
    """
    if lengths is None:
        return padded.flip(1)
    t = torch.arange(padded.shape[1])
    source = torch.where(t < lengths.unsqueeze(-1), lengths.unsqueeze(-1) - 1 - t, t).to(padded.device)
    return padded[torch.arange(len(padded), device=padded.device).unsqueeze(-1), source]
