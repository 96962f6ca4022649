"""Cells that torch has: its compiled layer over all steps."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from probseq.recurrent.cell import Cell
from probseq.recurrent.layer import State


class TorchCell(Cell):
    """A cell around one layer of torch.nn, with its weights and names.

    Attributes:
        layer: the torch module, batch first.
    """

    layer: Any  # an nn.RNN, nn.LSTM or nn.GRU, whose types leave out its weights

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.hidden_size,),)

    @property
    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W_x (gates H, D), W_h (gates H, H) and their biases (gates H), b_x and b_h."""
        layer = self.layer
        return layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0

    def _run(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return self._by_torch(inputs, state)

    def _run_packed(self, packed: PackedSequence, state: State) -> tuple[PackedSequence, State]:
        return self._by_torch(packed, state)

    def _by_torch(self, inputs: Any, state: State) -> tuple[Any, State]:
        before = [one.unsqueeze(0) for one in state]  # torch's axis of layers
        outputs, hidden = self.layer(inputs, before[0] if len(before) == 1 else tuple(before))
        after = hidden if isinstance(hidden, tuple) else (hidden,)
        return outputs, tuple(one.squeeze(0) for one in after)
