"""Small exact facts about transition matrices: the stationary law, safe logarithms, mean stays."""

from __future__ import annotations

import torch
from torch import Tensor

from probseq.errors import ModelError


def log_probability(probability: Tensor) -> Tensor:
    """log p with log 0 = -inf and a zero gradient there, so that structural zeros stay zero and never give NaN."""
    positive = probability > 0
    return torch.where(positive, torch.where(positive, probability, 1.0).log(), -torch.inf)


def stationary_law(transition: Tensor) -> Tensor:
    """The law delta with delta A = delta, from delta (I - A + U) = 1 (Zucchini, MacDonald & Langrock 2016, 1.3).

    Args:
        transition: (..., K, K), rows sum to one.

    Returns:
        (..., K) probabilities; differentiable.

    Raises:
        ModelError: the chain has more than one closed class, so the law is not unique.

    >>> stationary_law(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64))
    tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    states = transition.shape[-1]
    system = torch.eye(states, dtype=transition.dtype, device=transition.device) - transition + 1.0
    law, info = torch.linalg.solve_ex(system.mT, torch.ones_like(transition[..., 0]).unsqueeze(-1))
    law = law.squeeze(-1)
    if bool((info != 0).any()) or not bool(torch.isfinite(law).all()) or bool((law < -1e-8).any()):
        raise ModelError(
            "A stationary transition matrix must have one closed class of states, got several (the stationary law "
            "is not unique); use a free initial law, or allow transitions between the classes."
        )
    law = law.clamp_min(0.0)
    return law / law.sum(-1, keepdim=True)


def mean_stay(transition: Tensor) -> Tensor:
    """(..., K) expected number of steps of one visit to each state, 1 / (1 - a_kk); inf for an absorbing state.

    >>> mean_stay(torch.tensor([[0.9, 0.1], [0.5, 0.5]], dtype=torch.float64))
    tensor([10.0000,  2.0000], dtype=torch.float64)
    """
    return 1.0 / (1.0 - transition.diagonal(dim1=-2, dim2=-1))
