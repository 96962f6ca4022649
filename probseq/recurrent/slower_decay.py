"""How leaky units and delayed connections slow the decay of gradients: its exponents near rest, in closed form.

At rest the vanilla step is h_t = W h_{t-1}, and gradients go as lambda^k, lambda = rho(W). A connection of delay D
alone is h_t = W h_{t-D}: the same product of W's takes D times as many steps, lambda^(k / D). A leaky unit of time
constant tau is h_t = (1 - 1/tau) h_{t-1} + (1/tau) W h_{t-1}, whose factor 1 - (1 - lambda) / tau is, for large tau,
that of exp(-(1 - lambda) k / tau): tau times as many steps again. Neither changes that the decay is exponential.

Source: Lin, Horne, Tino & Giles (1996), "Learning long-term dependencies in NARX recurrent neural networks"; Bengio,
Boulanger-Lewandowski & Pascanu (2013), "Advances in optimizing recurrent networks", section 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from probseq.recurrent.jacobians import spectral_radius


def leaky_exponent(w_hh: Tensor, time_constants: Tensor) -> float:
    """log rho of diag(1 - 1/tau) + diag(1/tau) W, nats per step.

    Args:
        w_hh: W (H, H).
        time_constants: tau (H,), in steps.

    >>> one = torch.tensor([[0.5]])
    >>> round(leaky_exponent(one, torch.tensor([10.0])), 4) == round(float(np.log(0.95)), 4)
    True
    """
    leak = (1 / time_constants.detach()).to(w_hh.dtype)
    return float(np.log(spectral_radius(torch.diag(1 - leak) + leak.unsqueeze(1) * w_hh.detach())))


def delayed_exponent(weights: Mapping[int, Tensor]) -> float:
    """log of the greatest |z| with det(I - sum_D W_D z^-D) = 0, nats per step; of one delay alone, log rho(W) / D.

    Args:
        weights: by delay, W_D (H, H); delay 1 is W_hh.

    >>> round(delayed_exponent({5: torch.tensor([[0.5]])}), 4) == round(float(np.log(0.5) / 5), 4)
    True
    """
    longest, one = max(weights), next(iter(weights.values()))
    size = len(one)
    companion = torch.zeros(longest * size, longest * size, dtype=torch.float64)
    companion[size:, :-size] = torch.eye((longest - 1) * size, dtype=torch.float64)  # the state moves down one place
    for delay, weight in weights.items():
        companion[:size, (delay - 1) * size : delay * size] = weight.detach()
    return float(np.log(spectral_radius(companion)))
