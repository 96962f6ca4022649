"""Deep from hidden to output (Pascanu et al., 2014): a multilayer perceptron over what a cell says at each step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from probseq.errors import ModelError
from probseq.recurrent.cell import Cell
from probseq.recurrent.first_weights import weights_of_seed
from probseq.recurrent.layer import State, require_sizes, running


class DeepOutput(Cell):
    """A cell whose h_t goes through tanh layers on its way out; they do not recur, and the state is the cell's.

    Args:
        cell: the one that remembers.
        widths: numbers in each layer; the last is hidden_size.
        seed: of the layers' first weights.

    >>> from probseq.recurrent import DeepTransition
    >>> deep = DeepOutput(DeepTransition(2, 3, skip=True), widths=[8, 5])
    >>> deep.hidden_size, deep.state_shapes
    (5, ((3,),))
    """

    kind = "deep-output"

    def __init__(self, cell: Cell, widths: Sequence[int], *, seed: int = 0) -> None:
        super().__init__()
        if not widths:
            raise ModelError("widths must be at least one, got none at DeepOutput; without any it is the cell itself.")
        require_sizes(self, **{f"width {k}": width for k, width in enumerate(widths)})
        self.cell = cell
        self.widths = tuple(widths)
        self.input_size = cell.input_size
        self.hidden_size = self.widths[-1]
        with weights_of_seed(seed):
            self.layers = tanh_layers(cell.hidden_size, *widths)

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.cell.state_shapes

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        h, state = self.cell.step(inputs, state)
        return self.layers(h), state

    def unroll(self, inputs: Tensor, lengths: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        """All steps of the cell, then the layers over all of them; see `RecurrentLayer.unroll`."""
        lengths, state = self.admit(inputs, lengths, state)
        h, after = self.cell.unroll(inputs, lengths, state)
        outputs = self.layers(h)
        return outputs if lengths is None else torch.where(running(lengths, inputs), outputs, 0.0), after


def tanh_layers(*widths: int) -> nn.Sequential:
    """Layers from each width to the next, each followed by tanh."""
    pairs = zip(widths, widths[1:], strict=False)
    return nn.Sequential(*(part for one, other in pairs for part in (nn.Linear(one, other), nn.Tanh())))
