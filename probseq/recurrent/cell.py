"""What every recurrent cell offers: one step, and the same step unrolled over a batch of sequences.

h_t, state_t = step(x_t, state_{t-1})
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from probseq.recurrent.layer import RecurrentLayer, State, running


class Cell(RecurrentLayer):
    """A recurrent network's step; causal: h_t depends on x_1..x_t alone."""

    @abstractmethod
    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: x_t (B, D) and the state before it to h_t (B, H) and the state after it.

        Made of plain tensor operations on the last axis, so that `torch.func` differentiates and maps it, and without
        a batch axis too.
        """

    def unroll(self, inputs: Tensor, lengths: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        """All steps, one after the other; see `RecurrentLayer.unroll`."""
        lengths, state = self.admit(inputs, lengths, state)
        runs = None
        if lengths is not None:
            runs = running(lengths, inputs)
            inputs = torch.where(runs, inputs, 0.0)  # that no NaN of the padding enters a gradient as 0 * NaN
        outputs = []
        for t in range(inputs.shape[1]):
            output, after = self.step(inputs[:, t], state)
            if runs is not None:
                output = torch.where(runs[:, t], output, 0.0)
                after = tuple(
                    torch.where(runs[:, t].reshape(-1, *[1] * (new.ndim - 1)), new, old)
                    for new, old in zip(after, state, strict=True)
                )
            outputs.append(output)
            state = after
        if not outputs:
            return inputs.new_zeros(len(inputs), 0, self.hidden_size), state
        return torch.stack(outputs, dim=1), state
