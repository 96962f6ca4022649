"""Cells that torch has: its compiled layer over all steps, packed where sequences differ in length."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

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

    def unroll(self, inputs: Tensor, lengths: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        """All steps by torch's own loop; see `RecurrentLayer.unroll`."""
        lengths, state = self.admit(inputs, lengths, state)
        if lengths is None:
            return self._run(inputs, None, state) if inputs.numel() else (self._silence(inputs), state)
        some = lengths.nonzero()[:, 0]
        if len(some) == len(lengths):
            return self._run(inputs, lengths, state)
        outputs = self._silence(inputs)
        if len(some) == 0:
            return outputs, state
        rows = some.to(inputs.device)  # torch packs no sequence without steps
        ran, after = self._run(inputs[rows], lengths[some], tuple(one[rows] for one in state))
        outputs = outputs.index_copy(0, rows, ran)
        return outputs, tuple(old.index_copy(0, rows, new) for old, new in zip(state, after, strict=True))

    def _silence(self, inputs: Tensor) -> Tensor:
        return inputs.new_zeros(*inputs.shape[:2], self.hidden_size)

    def _run(self, inputs: Tensor, lengths: Tensor | None, state: State) -> tuple[Tensor, State]:
        """The torch layer on at least one step of each sequence."""
        before = [one.unsqueeze(0) for one in state]
        hidden: Any = tuple(before) if len(before) > 1 else before[0]
        if lengths is None:
            outputs, hidden = self.layer(inputs, hidden)
        else:
            packed, hidden = self.layer(
                pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False), hidden
            )
            outputs, _ = pad_packed_sequence(packed, batch_first=True, total_length=inputs.shape[1])
        after = hidden if isinstance(hidden, tuple) else (hidden,)
        return outputs, tuple(one.squeeze(0) for one in after)
