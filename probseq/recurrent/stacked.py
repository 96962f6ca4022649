"""Deep in space: cells on top of each other, each reading the one below (the lecture's variant d)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from probseq.errors import ModelError
from probseq.recurrent.cell import Cell
from probseq.recurrent.layer import State


class Stacked(Cell):
    """Cells on top of each other; the state is that of the lowest, then of the next.

    Args:
        cells: from the lowest; each one's input_size is the hidden_size of the one below.
        dropout: the share of each cell's outputs that the next does not see, in training only.

    >>> import torch
    >>> from probseq.recurrent import LSTM
    >>> deep = Stacked([LSTM(2, 4), LSTM(4, 3)], dropout=0.1)
    >>> deep.unroll(torch.zeros(1, 5, 2))[0].shape
    torch.Size([1, 5, 3])
    """

    kind = "stacked"

    def __init__(self, cells: Sequence[Cell], dropout: float = 0.0) -> None:
        super().__init__()
        if not cells:
            raise ModelError("cells must be at least one, got none at Stacked; give the lowest first.")
        for k, cell in enumerate(cells):
            if not isinstance(cell, Cell):
                kind = getattr(cell, "kind", type(cell).__name__)
                raise ModelError(
                    f"cells must be causal cells, got a layer of kind {kind!r} at cell {k} of Stacked; stack cells "
                    "inside it, as in Bidirectional(Stacked(...), Stacked(...))."
                )
        for k in range(1, len(cells)):
            if cells[k].input_size != cells[k - 1].hidden_size:
                raise ModelError(
                    f"input_size must be the hidden_size of the cell below, {cells[k - 1].hidden_size}, got "
                    f"{cells[k].input_size} at cell {k} of Stacked; make them equal."
                )
        if len({id(cell) for cell in cells}) < len(cells):
            raise ModelError("cells must differ, got one of them twice at Stacked; make one for each layer.")
        if not 0 <= dropout < 1:
            raise ModelError(f"dropout must be in [0, 1), got {dropout} at Stacked; choose the share to drop.")
        self.cells = nn.ModuleList(cells)
        self.dropout = dropout
        self.input_size = cells[0].input_size
        self.hidden_size = cells[-1].hidden_size

    @property
    def layers(self) -> tuple[Cell, ...]:
        """The cells, from the lowest."""
        return tuple(cell for cell in self.cells if isinstance(cell, Cell))

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(shape for cell in self.layers for shape in cell.state_shapes)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        after: State = ()
        for cell, before in zip(self.layers, self._shares(state), strict=True):
            inputs, new = cell.step(self._between(inputs, cell), before)
            after += new
        return inputs, after

    def unroll(self, inputs: Tensor, lengths: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        """All steps of the lowest cell, then of the next; see `RecurrentLayer.unroll`."""
        lengths, state = self.admit(inputs, lengths, state)
        after: State = ()
        for cell, before in zip(self.layers, self._shares(state), strict=True):
            inputs, new = cell.unroll(self._between(inputs, cell), lengths, before)
            after += new
        return inputs, after

    def _between(self, inputs: Tensor, cell: Cell) -> Tensor:
        return inputs if cell is self.layers[0] else functional.dropout(inputs, self.dropout, self.training)

    def _shares(self, state: State) -> list[State]:
        """Each cell's part of the state."""
        shares, first = [], 0
        for cell in self.layers:
            stop = first + len(cell.state_shapes)
            shares.append(state[first:stop])
            first = stop
        return shares
