"""log p(x) of a hidden Markov chain as a differentiable torch function; its gradient is the posterior.

For log p(x) as a function of (log initial, log transition, log emission) the gradient is
(gamma_1, sum_t xi_t, gamma), the expected counts of Baum, Petrie, Soules & Weiss (1970). One compiled
forward-backward pass therefore gives the value and its gradient. When a gradient of the gradient is asked for, the
value is computed again by a plain torch recursion, so that Hessians (Laplace, standard errors) are right.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probseq import kernels
from probseq.chains.tape import compiled
from probseq.kernels.reference import evidence_reference

Index = Tensor | np.ndarray | None


def evidence(
    log_initial: Tensor,
    log_transition: Tensor,
    log_table: Tensor,
    lengths: Tensor,
    emission_index: Index = None,
    transition_index: Index = None,
) -> Tensor:
    """log p(x_n) of every sequence, states summed out exactly; twice differentiable.

    Compiled for float64 on the CPU; on another device the plain torch recursion runs.

    Args:
        log_initial: (*batch, I, K) nats, I = 1 (one law for all sequences) or N.
        log_transition: (*batch, S, K, K) nats; entry [s, i, j] is log p(z_{t+1} = j | z_t = i).
        log_table: (*batch, R, K) nats, log-likelihood of each distinct observation under each state.
        lengths: (N,) int64, steps of each sequence; their sum is T.
        emission_index: (T,) row of the table of each step; None means R = T; (T, R) weights combine the rows.
        transition_index: (T,) matrix of the move from step t to t + 1; None means S = 1.

    Returns:
        (*batch, N) nats; -inf where the model makes the sequence impossible.
    """
    batch = torch.broadcast_shapes(log_initial.shape[:-2], log_transition.shape[:-3], log_table.shape[:-2])
    log_initial = log_initial.expand(batch + log_initial.shape[-2:])
    log_transition = log_transition.expand(batch + log_transition.shape[-3:])
    log_table = log_table.expand(batch + log_table.shape[-2:])
    if log_table.device.type != "cpu":
        return evidence_reference(
            log_initial, log_transition, log_table, lengths, _as_tensor(emission_index), _as_tensor(transition_index)
        )
    result = _Evidence.apply(
        log_initial.reshape((-1,) + log_initial.shape[-2:]).double(),
        log_transition.reshape((-1,) + log_transition.shape[-3:]).double(),
        log_table.reshape((-1,) + log_table.shape[-2:]).double(),
        lengths,
        emission_index,
        transition_index,
    )
    return result.reshape(batch + lengths.shape).to(log_table.dtype)


def kernel_structure(lengths: Tensor, emission_index: Index, transition_index: Index) -> dict[str, Any]:
    """What the recursions know besides the tables, as numpy arrays under the names that `probseq.kernels` uses."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths.numpy(), out=offsets[1:])
    return {
        "offsets": offsets,
        "emission_index": None if emission_index is None else np.asarray(emission_index),
        "transition_index": None if transition_index is None else np.asarray(transition_index),
    }


class _Evidence(torch.autograd.Function):
    """(B, I, K), (B, S, K, K), (B, R, K) -> (B, N), with expected counts as its gradient."""

    @staticmethod
    def forward(ctx: Any, log_initial, log_transition, log_table, lengths, emission_index, transition_index):  # type: ignore[override]
        tables, ctx.structure = (log_initial, log_transition, log_table), (lengths, emission_index, transition_index)
        ctx.save_for_backward(*tables)
        ctx.counts = None
        structure = kernel_structure(*ctx.structure)
        if not any(ctx.needs_input_grad):
            return compiled(functools.partial(_evidence, structure), *tables)[0]
        result, *ctx.counts = compiled(functools.partial(_counts, structure), *tables)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor):  # type: ignore[override]
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():
            grads = _differentiable_gradient(inputs, ctx.structure, grad_output)
        else:
            grads = _expected_counts(inputs, ctx.structure, ctx.counts, grad_output)
        return (*grads, None, None, None)


def _evidence(structure: dict[str, Any], *tables: np.ndarray) -> tuple[np.ndarray, ...]:
    """The compiled forward pass."""
    return (kernels.evidence(*tables, **structure),)


def _counts(structure: dict[str, Any], *tables: np.ndarray) -> tuple[np.ndarray, ...]:
    """Evidence and expected counts by the compiled passes; weights (B, N) may come as a fourth table."""
    found = kernels.expected_counts(*tables[:3], **structure, weights=tables[3] if len(tables) > 3 else None)
    return found.evidence, found.initial, found.transition, found.emission


def _expected_counts(
    inputs: tuple[Tensor, ...], structure: tuple, counts: list[Tensor], grad_output: Tensor
) -> list[Tensor]:
    """Expected counts times the incoming gradient; one more pass only where sequences are weighted differently."""
    scale = grad_output[:, :1]
    if grad_output.numel() and not bool((grad_output == scale).all()):
        return list(compiled(functools.partial(_counts, kernel_structure(*structure)), *inputs, grad_output)[1:])
    if scale.numel() == 0 or bool((scale == 1.0).all()):
        return counts
    return [tensor * scale.reshape((-1,) + (1,) * (tensor.dim() - 1)) for tensor in counts]


def _differentiable_gradient(inputs: tuple[Tensor, ...], structure: tuple, grad_output: Tensor) -> list[Tensor | None]:
    """The same gradient with a graph of its own, for second derivatives."""
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    lengths, emission_index, transition_index = structure
    log_initial, log_transition, log_table = inputs
    value = evidence_reference(
        log_initial, log_transition, log_table, lengths, _as_tensor(emission_index), _as_tensor(transition_index)
    )
    found = iter(torch.autograd.grad(value, wanted, grad_output, create_graph=True, allow_unused=True))
    return [next(found) if tensor.requires_grad else None for tensor in inputs]


def _as_tensor(index: Index) -> Tensor | None:
    """An index that torch can gather with; it reads uint8 as a mask and has no arithmetic for uint16."""
    if index is None:
        return None
    array = np.asarray(index)
    return torch.from_numpy(array if array.ndim == 2 else array.astype(np.int64))
