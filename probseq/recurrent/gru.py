"""The gated recurrent unit (Cho et al., 2014), in torch's form.

r, z = sigmoid(W_x x_t + W_h h_{t-1} + b), n = tanh(W_x x_t + b_x + r (W_h h_{t-1} + b_h)), h_t = (1 - z) n + z h_{t-1}
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from probseq.recurrent.first_weights import make_orthogonal, weights_of_seed
from probseq.recurrent.layer import State, require_sizes
from probseq.recurrent.torch_cell import TorchCell


class GRU(TorchCell):
    """The gated recurrent unit; state (h,). Rows of the weights are, as in torch, those of r, z and n.

    Args:
        input_size: D.
        hidden_size: H.
        orthogonal: start from orthogonal recurrent weights, one matrix for each gate.
        seed: of the first weights.
    """

    kind = "gru"

    def __init__(self, input_size: int, hidden_size: int, *, orthogonal: bool = False, seed: int = 0) -> None:
        super().__init__()
        require_sizes(self, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.orthogonal = orthogonal
        with weights_of_seed(seed):
            self.layer = nn.GRU(input_size, hidden_size, batch_first=True)
            if orthogonal:
                make_orthogonal(self.layer.weight_hh_l0)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        w_x, w_h, b_x, b_h = self.weights
        r_x, z_x, n_x = functional.linear(inputs, w_x, b_x).chunk(3, dim=-1)
        r_h, z_h, n_h = functional.linear(h, w_h, b_h).chunk(3, dim=-1)
        n = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
        z = torch.sigmoid(z_x + z_h)
        h = (1 - z) * n + z * h
        return h, (h,)
