"""The forward recursion in plain torch: any device and dtype, batched, and differentiable as often as you like.

    log alpha_1(k) = log pi(k) + log b_1(k)
    log alpha_t(j) = logsumexp_i [log alpha_t-1(i) + log A(i, j)] + log b_t(j),    log p(x) = logsumexp_k log alpha_T(k)

(Rabiner 1989, equations 19-21.) This is the oracle of the compiled recursions, and what they fall back on for second
derivatives and for tensors that are not on the CPU. All sequences advance together, step by step.
"""

from __future__ import annotations

import torch
from torch import Tensor


def evidence_reference(
    log_initial: Tensor,
    log_transition: Tensor,
    log_table: Tensor,
    lengths: Tensor,
    emission_index: Tensor | None = None,
    transition_index: Tensor | None = None,
) -> Tensor:
    """log p(x_n) of each sequence, shape (*B, N), nats; the leading dimensions *B broadcast.

    Args:
        log_initial (*B, I, K): log p(z_1 = k), I = 1 or N.
        log_transition (*B, S, K, K): log p(z_t+1 = j | z_t = i) at [i, j].
        log_table (*B, R, K): log-likelihood of each emission row in each state.
        lengths (N,): steps of each sequence, summing to T.
        emission_index (T,): row of log_table of each step; None when R = T; or (T, R) weights by which each step
            combines the rows.
        transition_index (T,): matrix of the move from step t to t + 1; None when S = 1.
    """
    device = log_table.device
    lengths = lengths.to(device)
    ends = lengths.cumsum(0)
    steps, count = int(lengths.sum()), lengths.shape[0]
    if emission_index is not None and emission_index.dim() == 2:
        log_table, emission_index = emission_index.to(log_table) @ log_table, None
    rows = torch.arange(steps, device=device) if emission_index is None else emission_index.to(device).long()
    moves = None if transition_index is None else transition_index.to(device).long()
    batch = torch.broadcast_shapes(log_initial.shape[:-2], log_transition.shape[:-3], log_table.shape[:-2])
    if steps == 0:
        return log_table.new_zeros((*batch, count))

    at = (ends - lengths).clamp(max=steps - 1)  # (N,) current step of each sequence
    alpha = log_initial + log_table[..., rows[at], :]  # (*B, N, K)
    alpha = alpha.expand(*batch, count, alpha.shape[-1])
    for age in range(1, int(lengths.max())):
        active = age < lengths
        at = torch.where(active, at + 1, at)
        matrices = log_transition if moves is None else log_transition[..., moves[at - 1], :, :]  # (*B, 1 or N, K, K)
        moved = logsumexp(alpha.unsqueeze(-1) + matrices, -2) + log_table[..., rows[at], :]
        alpha = torch.where(active.unsqueeze(-1), moved, alpha)
    return torch.where(lengths > 0, logsumexp(alpha, -1), 0.0)


def logsumexp(values: Tensor, dim: int) -> Tensor:
    """log sum exp over one dimension, with zero (not NaN) derivatives of every order where all terms are -inf.

    >>> x = torch.tensor([-torch.inf, -torch.inf], requires_grad=True)
    >>> logsumexp(x, 0).backward()
    >>> x.grad
    tensor([0., 0.])
    """
    top = values.detach().amax(dim, keepdim=True)
    top = torch.where(top == -torch.inf, 0.0, top)
    total = (values - top).exp().sum(dim)
    positive = total > 0
    return torch.where(positive, torch.where(positive, total, 1.0).log() + top.squeeze(dim), -torch.inf)
