"""What every recurrent cell offers: one step, and the same step unrolled over a batch of sequences.

h_t, state_t = step(x_t, state_{t-1})
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]
"""What a cell carries from step to step, each (B, ...)."""


class Cell(nn.Module, ABC):
    """A recurrent network's step; causal: h_t depends on x_1..x_t alone.

    Attributes:
        input_size: D, numbers in x_t.
        hidden_size: H, numbers in h_t.
    """

    input_size: int
    hidden_size: int

    @property
    @abstractmethod
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each tensor of the state, without its batch axis."""

    @abstractmethod
    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: x_t (B, D) and the state before it to h_t (B, H) and the state after it."""

    def start(self, batch: int) -> State:
        """The state before the first step: zeros (B, ...)."""
        like = next(self.parameters())
        return tuple(like.new_zeros(batch, *shape) for shape in self.state_shapes)

    def unroll(self, inputs: Tensor, lengths: Tensor | None = None, state: State | None = None) -> tuple[Tensor, State]:
        """All steps, one after the other.

        Args:
            inputs: (B, L, D), padded after the end of each sequence.
            lengths: (B,) int64 on the CPU, 0 to L; None when all have L steps.
            state: before the first step; None is `start`.

        Returns:
            h (B, L, H), zeros after the end; and the state after each sequence's own last step, which is the state
            before it where a sequence has no steps.
        """
        state = self.start(len(inputs)) if state is None else state
        outputs = []
        for t in range(inputs.shape[1]):
            output, after = self.step(inputs[:, t], state)
            if lengths is not None:
                runs = (lengths > t).to(inputs.device)
                output = torch.where(runs.unsqueeze(-1), output, torch.zeros_like(output))
                after = tuple(
                    torch.where(runs.reshape(-1, *[1] * (new.ndim - 1)), new, old)
                    for new, old in zip(after, state, strict=True)
                )
            outputs.append(output)
            state = after
        if not outputs:
            return inputs.new_zeros(len(inputs), 0, self.hidden_size), state
        return torch.stack(outputs, dim=1), state
