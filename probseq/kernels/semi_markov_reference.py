"""The evidence of a hidden semi-Markov chain in plain torch: any device, batched, differentiable at any order.

The remaining-duration recursion (Yu & Kobayashi 2003) on logarithms, written apart from the compiled passes, whose
oracle it is: a segment is entered with d steps to go, of which every step takes one. One with D steps or more counts
down on a track of its own and, once at its last step, goes on with probability q_k or ends with 1 - q_k. Whatever is on
its way at the last step is counted in full: that is the survivor function of the segment that the data cut off.
"""

from __future__ import annotations

import torch
from torch import Tensor

from probseq.kernels.reference import logsumexp


def semi_markov_evidence_reference(
    log_initial: Tensor,
    log_transition: Tensor,
    log_duration: Tensor,
    log_first: Tensor,
    log_stay: Tensor,
    log_leave: Tensor,
    log_table: Tensor,
    lengths: Tensor,
    emission_index: Tensor | None = None,
    transition_index: Tensor | None = None,
) -> Tensor:
    """log p(x_n) of each sequence, shape (*B, N), nats; the leading dimensions *B broadcast.

    Args:
        log_initial (*B, I, K), log_transition (*B, S, K, K), log_duration (*B, K, D), log_first (*B, K, D), log_stay
            (*B, K), log_leave (*B, K), log_table (*B, R, K): see `semi_markov`.
        lengths (N,): steps of each sequence, summing to T.
        emission_index (T,): row of log_table of each step; None when R = T.
        transition_index (T,): matrix of the move from step t to t + 1; None when S = 1.
    """
    lengths = lengths.to(log_table.device)
    ends, steps, count = lengths.cumsum(0), int(lengths.sum()), lengths.shape[0]
    parts = (log_initial, 2), (log_transition, 3), (log_duration, 2), (log_first, 2), (log_stay, 1), (log_leave, 1)
    batch = torch.broadcast_shapes(log_table.shape[:-2], *(x.shape[: x.dim() - n] for x, n in parts))
    if steps == 0:
        return log_table.new_zeros((*batch, count))
    device = log_table.device
    rows = torch.arange(steps, device=device) if emission_index is None else emission_index.to(device).long()
    states, longest = log_duration.shape[-2:]
    never = log_table.new_full((*batch, count, states, 1), -torch.inf)
    at = (ends - lengths).clamp(max=steps - 1)  # (N,) current step of each sequence
    shape = (*batch, count, states, longest)

    def entered(weight: Tensor, law: Tensor) -> tuple[Tensor, Tensor]:
        """Entries with 1 .. D - 1 steps, and on the track of D or more: (*B, N, K, D - 1) and (*B, N, K, D)."""
        by_duration = (weight.unsqueeze(-1) + law.unsqueeze(-3)).expand(shape)
        return by_duration[..., :-1], torch.cat([never.expand(shape)[..., 1:], by_duration[..., -1:]], -1)

    initial = log_initial.expand(*log_initial.shape[:-2], count, states)
    short, long = (x + log_table[..., rows[at], :].unsqueeze(-1) for x in entered(initial, log_first))
    for age in range(1, int(lengths.max())):
        active = (age < lengths)[:, None, None]
        move = 0 if transition_index is None else transition_index.to(device)[at].long()
        at = torch.where(age < lengths, at + 1, at)
        leaving = long[..., 0] + log_leave.unsqueeze(-2)
        if longest > 1:
            leaving = logsumexp(torch.stack([leaving, short[..., 0]]), 0)
        matrices = log_transition[..., move, :, :] if transition_index is not None else log_transition
        new = entered(logsumexp(leaving.unsqueeze(-1) + matrices, -2), log_duration)
        stay = torch.cat([long[..., :1] + log_stay[..., None, :, None], never.expand(shape)[..., 1:]], -1)
        emitted = log_table[..., rows[at], :].unsqueeze(-1)
        moved = [logsumexp(torch.stack([torch.cat([long[..., 1:], never], -1), stay, new[1]]), 0) + emitted]
        if longest > 1:
            moved.append(logsumexp(torch.stack([torch.cat([short[..., 1:], never], -1), new[0]]), 0) + emitted)
            short = torch.where(active, moved[1], short)
        long = torch.where(active, moved[0], long)
    total = logsumexp(torch.cat([short, long], -1).flatten(-2), -1)
    return torch.where(lengths > 0, total, 0.0)
