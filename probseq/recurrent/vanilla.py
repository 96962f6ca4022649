"""The vanilla recurrent network (Elman, 1990): h_t = tanh(W_xh x_t + W_hh h_{t-1} + b_h)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from probseq.errors import ModelError
from probseq.recurrent.first_weights import make_orthogonal, weights_of_seed
from probseq.recurrent.layer import State, require_sizes
from probseq.recurrent.torch_cell import TorchCell


class Vanilla(TorchCell):
    """h_t = tanh(W_xh x_t + W_hh h_{t-1} + b_h), with b_h the sum of torch's two biases; state (h,).

    Args:
        input_size: D.
        hidden_size: H.
        activation: "tanh" or "relu".
        orthogonal: start from orthogonal W_hh, which neither shrinks nor stretches; else from torch's uniform weights.
        seed: of the first weights.

    >>> cell = Vanilla(2, 3)
    >>> h, state = cell.unroll(torch.zeros(1, 4, 2))
    >>> h.shape, bool((state[0] == h[:, -1]).all())
    (torch.Size([1, 4, 3]), True)
    """

    kind = "vanilla"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: Literal["tanh", "relu"] = "tanh",
        orthogonal: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_sizes(self, input_size=input_size, hidden_size=hidden_size)
        if activation not in ("tanh", "relu"):
            raise ModelError(
                f"activation must be 'tanh' or 'relu', got {activation!r} at Vanilla; these are what torch compiles."
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.activation = activation
        self.orthogonal = orthogonal
        with weights_of_seed(seed):
            self.layer = nn.RNN(input_size, hidden_size, nonlinearity=activation, batch_first=True)
            if orthogonal:
                make_orthogonal(self.layer.weight_hh_l0)

    @property
    def bounded(self) -> bool:
        """Whether no number of the state can overflow; relu may grow without end."""
        return self.activation == "tanh"

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        w_xh, w_hh, b_x, b_h = self.weights
        z = functional.linear(inputs, w_xh, b_x) + functional.linear(state[0], w_hh, b_h)
        h = torch.tanh(z) if self.activation == "tanh" else torch.relu(z)
        return h, (h,)
