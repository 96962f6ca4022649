"""Deep in time: a multilayer perceptron inside the recurrence (Pascanu et al., 2014), the lecture's variants b and c.

m_1 = tanh(W_xh x_t + W_hh h_{t-1} + b_1), m_l = tanh(W_l m_{l-1} + b_l), h_t = m_depth; with a skip connection the last
one is h_t = tanh(W_depth m_{depth-1} + W_skip h_{t-1} + b_depth).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from probseq.errors import ModelError
from probseq.recurrent.driven import DrivenCell
from probseq.recurrent.first_weights import uniform, weights_of_seed
from probseq.recurrent.layer import State, require_sizes


class DeepTransition(DrivenCell):
    """Several layers from one hidden vector to the next; state (h,).

    Args:
        input_size: D.
        hidden_size: H, of every layer.
        depth: layers from h_{t-1} to h_t, at least 2; one would be Vanilla.
        skip: whether h_{t-1} also enters the last layer directly: a way for gradients of one layer a step.
        seed: of the first weights.

    >>> DeepTransition(2, 3, depth=3, skip=True).unroll(torch.zeros(1, 4, 2))[0].shape
    torch.Size([1, 4, 3])
    """

    kind = "deep-transition"

    def __init__(self, input_size: int, hidden_size: int, *, depth: int = 2, skip: bool = False, seed: int = 0) -> None:
        super().__init__()
        require_sizes(self, input_size=input_size, hidden_size=hidden_size)
        if depth < 2:
            raise ModelError(f"depth must be at least 2, got {depth} at DeepTransition; one layer is Vanilla.")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.depth = depth
        self.skip = skip
        with weights_of_seed(seed):
            self.weight_xh = uniform(hidden_size, hidden_size, input_size)
            self.weight_hh = uniform(hidden_size, hidden_size, hidden_size)
            self.bias = uniform(hidden_size, hidden_size)
            self.above = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(depth - 1))
            if skip:
                self.weight_skip = uniform(hidden_size, hidden_size, hidden_size)

    def advance(self, drive: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        z = drive + functional.linear(h, self.weight_hh)
        for layer in self.above:
            z = layer(torch.tanh(z))
        if self.skip:
            z = z + functional.linear(h, self.weight_skip)
        h = torch.tanh(z)
        return h, (h,)
