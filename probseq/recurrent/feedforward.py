"""No memory: what a recurrent network is measured against, and all that output recurrence needs."""

from __future__ import annotations

import torch
from torch import Tensor

from probseq.recurrent.cell import Cell
from probseq.recurrent.deep_output import tanh_layers
from probseq.recurrent.first_weights import weights_of_seed
from probseq.recurrent.layer import State, require_sizes, running


class Feedforward(Cell):
    """h_t = tanh(W x_t + b), of this step's input alone; its state is empty.

    Args:
        input_size: D.
        hidden_size: H, of every layer.
        depth: how many such layers.
        seed: of the first weights.

    >>> Feedforward(2, 3).unroll(torch.zeros(1, 4, 2))[1]
    ()
    """

    kind = "feedforward"

    def __init__(self, input_size: int, hidden_size: int, *, depth: int = 1, seed: int = 0) -> None:
        super().__init__()
        require_sizes(self, input_size=input_size, hidden_size=hidden_size, depth=depth)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.depth = depth
        with weights_of_seed(seed):
            self.layers = tanh_layers(input_size, *[hidden_size] * depth)

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ()

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return self.layers(inputs), state

    def unroll(self, inputs: Tensor, lengths: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        """All steps at once; see `RecurrentLayer.unroll`."""
        lengths, state = self.admit(inputs, lengths, state)
        if lengths is None:
            return self.layers(inputs), state
        runs = running(lengths, inputs)
        inputs = torch.where(runs, inputs, 0.0)  # that no NaN of the padding enters a gradient as 0 * NaN
        return torch.where(runs, self.layers(inputs), 0.0), state
