"""log p(x) of a hidden semi-Markov chain as a differentiable torch function; its gradient is the expected counts.

One compiled pass there and back gives the value and its gradient; for a gradient of the gradient the value is computed
again by the plain torch recursion (compare `chain_evidence`).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probseq.chains.tape import compiled
from probseq.kernels import semi_markov
from probseq.kernels.semi_markov import SemiMarkovLaws
from probseq.kernels.semi_markov_reference import semi_markov_evidence_reference

EVENT_DIMS = (2, 3, 2, 2, 1, 1, 2)
"""Of log_initial, log_transition, log_duration, log_first, log_stay, log_leave and log_table."""


def semi_markov_evidence(
    tables: tuple[Tensor, ...], lengths: Tensor, emission_index: Tensor | np.ndarray | None = None
) -> Tensor:
    """log p(x_n) of every sequence, (*batch, N) nats, paths summed out exactly; twice differentiable.

    Args:
        tables: log_initial (*batch, I, K), log_transition (*batch, 1, K, K), log_duration and log_first (*batch, K,
            D), log_stay and log_leave (*batch, K), log_table (*batch, R, K); see `kernels.semi_markov`.
        lengths: (N,) int64, steps of each sequence; their sum is T.
        emission_index: (T,) row of the table of each step; None means R = T; (T, R) weights combine the rows.
    """
    index = None if emission_index is None else np.asarray(emission_index)
    if index is not None and index.ndim == 2:
        tables, index = (*tables[:-1], torch.from_numpy(index) @ tables[-1]), None
    flat, batch = together(tables)
    if tables[-1].device.type != "cpu":
        rows = None if index is None else torch.from_numpy(index.astype(np.int64))
        return semi_markov_evidence_reference(*flat, lengths=lengths, emission_index=rows).reshape(
            batch + lengths.shape
        )
    result: Any = _Evidence.apply(lengths, index, *(table.double() for table in flat))
    return result.reshape(batch + lengths.shape).to(tables[-1].dtype)


def together(tables: tuple[Tensor, ...]) -> tuple[list[Tensor], torch.Size]:
    """The tables with their batch dims made one, (B, *event), and those dims."""
    shapes = [(table.shape[: table.dim() - n], n) for table, n in zip(tables, EVENT_DIMS, strict=True)]
    batch = torch.broadcast_shapes(*(lead for lead, _ in shapes))
    events = [table.shape[table.dim() - n :] for table, n in zip(tables, EVENT_DIMS, strict=True)]
    return [t.expand(batch + event).reshape((-1,) + event) for t, event in zip(tables, events, strict=True)], batch


def offsets_of(lengths: Tensor) -> np.ndarray:
    """(N + 1,) int64: sequence n is steps offsets[n] .. offsets[n + 1] - 1."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths.numpy())])


def kernel_arguments(tables: Any, lengths: Tensor, index: np.ndarray | None) -> dict[str, Any]:
    """The same data as arrays, under the names that `kernels.semi_markov` uses."""
    arrays = [table.detach().numpy() for table in tables]
    return {
        "laws": SemiMarkovLaws(*arrays[:-1]),
        "log_table": arrays[-1],
        "offsets": offsets_of(lengths),
        "emission_index": index,
    }


class _Evidence(torch.autograd.Function):
    """Tables (B, *event) -> (B, N), with expected counts as its gradient."""

    @staticmethod
    def forward(ctx: Any, lengths, index, *tables):  # type: ignore[override]
        ctx.structure = lengths, index
        ctx.save_for_backward(*tables)
        ctx.counts = None
        structure = offsets_of(lengths), index
        if not any(ctx.needs_input_grad):
            return compiled(functools.partial(_evidence, structure), *tables)[0]
        result, *ctx.counts = compiled(functools.partial(_counts, structure), *tables)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor):  # type: ignore[override]
        tables, (lengths, index) = ctx.saved_tensors, ctx.structure
        if torch.is_grad_enabled():
            return (None, None, *_differentiable(tables, lengths, index, grad_output))
        counts, scale = ctx.counts, grad_output[:, :1]
        if grad_output.numel() and not bool((grad_output == scale).all()):
            found = compiled(functools.partial(_counts, (offsets_of(lengths), index)), *tables, grad_output)
            counts, scale = found[1:], torch.ones_like(scale)
        return (None, None, *(part * scale.reshape((-1,) + (1,) * (part.dim() - 1)) for part in counts))


Structure = tuple[np.ndarray, np.ndarray | None]
"""Offsets of the sequences, and the row of each step or None."""


def _evidence(structure: Structure, *tables: np.ndarray) -> tuple[np.ndarray, ...]:
    """The compiled forward pass."""
    return (semi_markov.evidence(SemiMarkovLaws(*tables[:-1]), tables[-1], *structure),)


def _counts(structure: Structure, *tables: np.ndarray) -> tuple[np.ndarray, ...]:
    """Evidence and expected counts in the order of the tables; weights (B, N) may come after these."""
    size = len(EVENT_DIMS)
    weights = np.ascontiguousarray(tables[size]) if len(tables) > size else None
    laws = SemiMarkovLaws(*tables[: size - 1])
    found = semi_markov.expected_counts(laws, tables[size - 1], *structure, weights=weights)
    return found.evidence, *(part.numpy() for part in counted(found))


def counted(counts: semi_markov.SemiMarkovCounts) -> list[Tensor]:
    """The counts in the order of the tables."""
    tables = counts.initial, counts.transition, counts.duration, counts.first, counts.stay, counts.leave
    return [torch.from_numpy(table) for table in (*tables, counts.emission)]


def _differentiable(
    tables: tuple[Tensor, ...], lengths: Tensor, index: np.ndarray | None, grad_output: Tensor
) -> list[Tensor | None]:
    """The same gradient with a graph of its own, for second derivatives."""
    wanted = [table for table in tables if table.requires_grad]
    rows = None if index is None else torch.from_numpy(index.astype(np.int64))
    value = semi_markov_evidence_reference(*tables, lengths=lengths, emission_index=rows)
    found = iter(torch.autograd.grad(value, wanted, grad_output, create_graph=True, allow_unused=True))
    return [next(found) if table.requires_grad else None for table in tables]
