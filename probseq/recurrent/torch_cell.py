"""Cells that torch has: its compiled layer over all steps.

Sequences that are mostly of about the same length run together to the end of the longest, their padding made zeros and
what is computed of it thrown away: torch takes all steps of a padded batch several times faster than those of a packed
one. Where most of a batch would be padding, it is packed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from probseq.recurrent.cell import Cell
from probseq.recurrent.layer import State, running

_WORTH_RUNNING = 0.5
"""The share of true steps from which on padding is run along; measured with 64 to 256 units, on a CPU."""


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

    @property
    def bounded(self) -> bool:
        """Whether no number of the state can overflow, however many steps there are."""
        return True

    def _run_ragged(self, inputs: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        if not self.bounded or int(lengths.sum()) < _WORTH_RUNNING * inputs.shape[0] * inputs.shape[1]:
            return super()._run_ragged(inputs, lengths, state)
        runs = running(lengths, inputs)
        outputs, memory = self._run_on(torch.where(runs, inputs, 0.0), runs, state)
        outputs = torch.where(runs, outputs, 0.0)
        rows = torch.arange(len(lengths), device=inputs.device)
        return outputs, (outputs[rows, (lengths - 1).to(inputs.device)], *memory)

    def _run_on(self, inputs: Tensor, runs: Tensor, state: State) -> tuple[Tensor, State]:
        """All steps, beyond the ends too (`runs` (B, L, 1) is False there): h (B, L, H), and at each end the state
        without h."""
        return self._run(inputs, state)[0], ()

    def _run_packed(self, packed: PackedSequence, state: State) -> tuple[PackedSequence, State]:
        return self._by_torch(packed, state)

    def _by_torch(self, inputs: Any, state: State) -> tuple[Any, State]:
        before = [one.unsqueeze(0) for one in state]  # torch's axis of layers
        outputs, hidden = self.layer(inputs, before[0] if len(before) == 1 else tuple(before))
        after = hidden if isinstance(hidden, tuple) else (hidden,)
        return outputs, tuple(one.squeeze(0) for one in after)
