"""Cells of our own whose input enters by one affine map, which is had for all steps at once.

z_t = W_xh x_t + b, (h_t, state_t) = advance(z_t, state_{t-1})
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from torch.nn import functional

from probseq.recurrent.cell import Cell
from probseq.recurrent.layer import State


class DrivenCell(Cell):
    """A cell that a subclass completes by `advance`.

    Attributes:
        weight_xh: (H, D).
        bias: (H,).
    """

    weight_xh: Tensor
    bias: Tensor

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.hidden_size,),)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        return self.advance(self.drive(inputs), state)

    def drive(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, self.weight_xh, self.bias)

    @abstractmethod
    def advance(self, drive: Tensor, state: State) -> tuple[Tensor, State]:
        """A step from z_t (..., H)."""
