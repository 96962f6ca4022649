"""Delayed connections (Lin et al., 1996): h_t also sees h_{t-D}, so that gradients take 1/D as many steps.

h_t = tanh(W_xh x_t + W_hh h_{t-1} + sum_D W_D h_{t-D} + b_h), with h zero before the start
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from probseq.errors import ModelError
from probseq.recurrent.driven import DrivenCell
from probseq.recurrent.first_weights import uniform, weights_of_seed
from probseq.recurrent.layer import State, require_sizes


class Delayed(DrivenCell):
    """A vanilla network with direct connections over longer lags; state (h_{t-1}, h_{t-2}, ...) to the longest delay.

    Args:
        input_size: D.
        hidden_size: H.
        delays: lags in steps, each with a weight matrix of its own; W_hh, of lag 1, is there besides.
        seed: of the first weights.

    >>> cell = Delayed(2, 3, delays=[4])
    >>> h, state = cell.unroll(torch.zeros(1, 6, 2))
    >>> len(state), bool((state[1] == h[:, 4]).all())
    (4, True)
    """

    kind = "delayed"

    def __init__(self, input_size: int, hidden_size: int, *, delays: Sequence[int] = (10,), seed: int = 0) -> None:
        super().__init__()
        require_sizes(self, input_size=input_size, hidden_size=hidden_size)
        if not delays:
            raise ModelError("delays must be at least one, got none at Delayed; without any it is Vanilla.")
        require_sizes(self, **{f"delay {k}": delay for k, delay in enumerate(delays)})
        if len(set(delays)) < len(delays):
            raise ModelError(f"delays must differ, got {list(delays)} at Delayed; one matrix each is enough.")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.delays = tuple(delays)
        with weights_of_seed(seed):
            self.weight_xh = uniform(hidden_size, hidden_size, input_size)
            self.weight_hh = uniform(hidden_size, hidden_size, hidden_size)
            self.bias = uniform(hidden_size, hidden_size)
            self.delayed_weights = nn.ParameterList(uniform(hidden_size, hidden_size, hidden_size) for _ in delays)

    @property
    def state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.hidden_size,),) * max(self.delays)

    def advance(self, drive: Tensor, state: State) -> tuple[Tensor, State]:
        z = drive + functional.linear(state[0], self.weight_hh)
        for delay, weight in zip(self.delays, self.delayed_weights, strict=True):
            z = z + functional.linear(state[delay - 1], weight)
        h = torch.tanh(z)
        return h, (h, *state[:-1])
