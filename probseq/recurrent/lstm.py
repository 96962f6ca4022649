"""Long short-term memory (Hochreiter & Schmidhuber, 1997, with the forget gate of Gers et al., 2000).

f, i, o = sigmoid(W_x x_t + W_h h_{t-1} + b), g = tanh(same), c_t = f c_{t-1} + i g, h_t = o tanh(c_t)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from probseq.errors import ModelError
from probseq.recurrent.first_weights import make_orthogonal, weights_of_seed
from probseq.recurrent.layer import State, require_sizes
from probseq.recurrent.torch_cell import TorchCell

_SHUT = 1e4
"""A gate's input at which its sigmoid is 0 or 1 to the last bit, whatever else comes in."""


class LSTM(TorchCell):
    """Long short-term memory; state (h, c). Rows of the weights are, as in torch, those of i, f, g and o.

    Args:
        input_size: D.
        hidden_size: H.
        orthogonal: start from orthogonal recurrent weights, one matrix for each gate.
        forget_bias: the forget gate's first bias; 1 or 2 helps at long lags (Jozefowicz et al., 2015). None: torch's.
        longest_lag: the units' memories are spread from 1 to about this many steps: forget biases log U(1, longest_lag
            - 1), input biases minus those (Tallec & Ollivier, 2018). None: as `forget_bias` says.
        seed: of the first weights.

    >>> cell = LSTM(2, 3)
    >>> h, (last, memory) = cell.unroll(torch.zeros(2, 4, 2), torch.tensor([4, 2]))
    >>> bool((last[1] == h[1, 1]).all())
    True
    """

    kind = "lstm"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        orthogonal: bool = False,
        forget_bias: float | None = None,
        longest_lag: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_sizes(self, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.orthogonal = orthogonal
        self.forget_bias = forget_bias
        self.longest_lag = longest_lag
        if longest_lag is not None and (forget_bias is not None or not longest_lag > 2):
            raise ModelError(
                f"longest_lag must be above 2 and without a forget_bias, got {longest_lag} and {forget_bias} at LSTM; "
                "leave one of them out."
            )
        with weights_of_seed(seed):
            self.layer = nn.LSTM(input_size, hidden_size, batch_first=True)
            if orthogonal:
                make_orthogonal(self.layer.weight_hh_l0)
            spread = None if longest_lag is None else torch.empty(hidden_size).uniform_(1.0, longest_lag - 1.0).log()
        if forget_bias is not None:
            self._set_bias(1, torch.full((hidden_size,), float(forget_bias)))
        if spread is not None:
            self._set_bias(1, spread)
            self._set_bias(0, -spread)

    def _set_bias(self, gate: int, bias: Tensor) -> None:
        """The first bias of gate 0 (input), 1 (forget), 2 (g) or 3 (output), in one of torch's two."""
        rows = slice(gate * self.hidden_size, (gate + 1) * self.hidden_size)
        with torch.no_grad():
            self.layer.bias_ih_l0[rows] = bias
            self.layer.bias_hh_l0[rows] = 0.0

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return (self.hidden_size,), (self.hidden_size,)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = state
        w_x, w_h, b_x, b_h = self.weights
        i, f, g, o = (functional.linear(inputs, w_x, b_x) + functional.linear(h, w_h, b_h)).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)

    def _run_on(self, inputs: Tensor, runs: Tensor, state: State) -> tuple[Tensor, State]:
        """With one input more, which after the end shuts the input gate and opens the forget gate, so that c stays."""
        w_x, w_h, b_x, b_h = self.weights
        gates = w_x.new_tensor([-_SHUT, _SHUT, 0.0, 0.0]).repeat_interleave(self.hidden_size)
        inputs = torch.cat((inputs, (~runs).to(inputs.dtype)), dim=-1)
        weights = [torch.cat((w_x, gates.unsqueeze(-1)), dim=-1), w_h, b_x, b_h]
        before = [one.unsqueeze(0) for one in state]
        outputs, _, c = torch.lstm(inputs, before, weights, True, 1, 0.0, self.training, False, True)
        return outputs, (c.squeeze(0),)
