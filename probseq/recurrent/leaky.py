"""Leaky units (Mozer, 1992; Jaeger et al., 2007): each keeps part of what it was, and so remembers for longer.

h_t = (1 - 1/tau) h_{t-1} + (1/tau) tanh(W_xh x_t + W_hh h_{t-1} + b_h)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from probseq.errors import ModelError
from probseq.recurrent.driven import DrivenCell
from probseq.recurrent.first_weights import make_orthogonal, uniform, weights_of_seed
from probseq.recurrent.layer import State, require_sizes


class Leaky(DrivenCell):
    """Units that forget at a rate of their own, 1/tau a step; tau = 1 is the vanilla network. State (h,).

    Learned time constants are tau = 1 + exp(r), so that they stay above 1 whatever a step of training does to r; the
    leak is then 1/tau = sigmoid(-r).

    Args:
        input_size: D.
        hidden_size: H.
        tau: time constants in steps, at least 1: one for all units, or one for each.
        tau_to: if given, the units' time constants are spread evenly in their logarithm from `tau` to this.
        learned: whether training moves them from there; they must then be above 1.
        orthogonal: start from an orthogonal W_hh.
        seed: of the first weights.

    >>> Leaky(2, 3, tau=1.0, tau_to=100.0).time_constants
    tensor([  1.,  10., 100.])
    """

    kind = "leaky"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        tau: float | Sequence[float] = 10.0,
        tau_to: float | None = None,
        learned: bool = False,
        orthogonal: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_sizes(self, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.tau = float(tau) if isinstance(tau, int | float) else tuple(float(one) for one in tau)
        self.tau_to = tau_to
        self.learned = learned
        self.orthogonal = orthogonal
        first = _spread(self.tau, tau_to, hidden_size, learned)
        with weights_of_seed(seed):
            self.weight_xh = uniform(hidden_size, hidden_size, input_size)
            self.weight_hh = uniform(hidden_size, hidden_size, hidden_size)
            self.bias = uniform(hidden_size, hidden_size)
            if orthogonal:
                make_orthogonal(self.weight_hh)
        weights = self.weight_xh.dtype
        if learned:
            self.log_excess = nn.Parameter((first - 1).log().to(weights))
        else:
            self.register_buffer("fixed_tau", first.to(weights))

    @property
    def time_constants(self) -> Tensor:
        """tau (H,), in steps."""
        return 1 + self.log_excess.exp() if self.learned else self.get_buffer("fixed_tau")

    @property
    def leak(self) -> Tensor:
        """1/tau (H,), in (0, 1]."""
        return torch.sigmoid(-self.log_excess) if self.learned else 1 / self.get_buffer("fixed_tau")

    def advance(self, drive: Tensor, state: State) -> tuple[Tensor, State]:
        (h,) = state
        h = torch.lerp(h, torch.tanh(drive + functional.linear(h, self.weight_hh)), self.leak)
        return h, (h,)


def _spread(tau: float | tuple[float, ...], tau_to: float | None, count: int, learned: bool) -> Tensor:
    """(H,) float64: the first time constants, all of them allowed."""
    if tau_to is None:
        first = torch.tensor(tau, dtype=torch.float64)
        first = first.expand(count) if first.ndim == 0 else first
    elif isinstance(tau, tuple):
        raise ModelError(f"tau must be one number where tau_to is given, got {len(tau)} at Leaky; give where to start.")
    elif not (tau >= 1 and tau_to >= 1):
        raise ModelError(f"tau and tau_to must be at least 1, got {tau:g} and {tau_to:g} at Leaky; both count steps.")
    else:
        first = torch.logspace(math.log10(tau), math.log10(tau_to), count, dtype=torch.float64)
    if first.shape != (count,):
        raise ModelError(f"tau must be one number or {count}, got {len(first)} at Leaky; give one for each unit.")
    rule, good = ("be above 1 to be learned", first > 1) if learned else ("be at least 1", first >= 1)
    if not bool((good & first.isfinite()).all()):
        unit = int((~(good & first.isfinite())).nonzero()[0, 0])
        raise ModelError(
            f"tau must {rule}, got {first[unit].item():g} at unit {unit} of Leaky; a time constant is counted in steps."
        )
    return first
