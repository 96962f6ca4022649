"""Global attention (Luong, Pham & Manning 2015, sections 3.1 and 4.1), with their general score.

    a_ts = softmax_s(h_t' W m_s),   c_t = sum_s a_ts m_s,   h~_t = tanh(W_c [c_t; h_t])

Without input feeding, so that all steps of a known sentence are attended to at once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from probseq.recurrent import weights_of_seed


class Attention(nn.Module):
    """What of a memory each step of a decoder looks at.

    Args:
        hidden_size: H, numbers in h_t.
        memory_size: G, numbers in each m_s.
        seed: of the first weights.

    >>> attend = Attention(3, 2)
    >>> mask = torch.tensor([[True, True, False]])
    >>> attend.weights(torch.zeros(1, 1, 3), torch.ones(1, 3, 2), mask).tolist()
    [[[0.5, 0.5, 0.0]]]
    """

    def __init__(self, hidden_size: int, memory_size: int, seed: int = 0) -> None:
        super().__init__()
        with weights_of_seed(seed):
            self.compare = nn.Linear(memory_size, hidden_size, bias=False)
            self.combine = nn.Linear(memory_size + hidden_size, hidden_size, bias=False)

    def forward(self, h: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """h~ (B, L, H) of h (B, L, H), memory (B, S, G) and its mask (B, S), True where there is memory."""
        context = self.weights(h, memory, mask) @ memory
        return torch.tanh(self.combine(torch.cat([context, h], dim=-1)))

    def weights(self, h: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """a (B, L, S): how much step t looks at place s; rows sum to one."""
        score = h @ self.compare(memory).mT
        return score.masked_fill(~mask.unsqueeze(1), -math.inf).softmax(dim=-1)
