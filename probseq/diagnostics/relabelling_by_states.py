"""Relabelling by the smoothed probabilities of the states, p_s(t, k) = p(z_t = k | x, parameters of draw s).

Equivalence classes representatives (ECR; Papastamoulis and Iliopoulos 2010; Papastamoulis 2016) bring each draw closest
to a path, the pivot:  maximise over permutations  sum_t p_s(t, tau(pivot_t)),  the expected number of steps in
agreement; sampled paths are replaced by their law. Stephens (2000) brings all draws closest to their own average q,
minimising  sum_s sum_t sum_k p_s(t, tau(k)) log(p_s(t, tau(k)) / q(t, k)),  the Kullback-Leibler divergence. Both are
linear assignments for each draw. Memory is bounded, see `state_probabilities`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from probseq.diagnostics.relabelling import Relabelled, States, assign, opened, pivot_of, relabelled
from probseq.diagnostics.state_probabilities import StateProbabilities
from probseq.errors import DataError
from probseq.inference.fit import Fit
from probseq.sequences import Sequences

ROUNDS = 100
"""At most so many improvements of an average; each raises an objective, and a handful is enough."""

RISEN = 1e-12
"""The share of itself by which the objective must rise for another round."""


def relabel_ecr(
    fit: Fit,
    series: Sequences | None = None,
    *,
    pivot: Tensor | None = None,
    states: States | None = None,
) -> Relabelled:
    """ECR: the names under which each draw expects to agree with a path at the most steps.

    Args:
        fit: with draws.
        series: the data; None is the one that was fitted.
        pivot: (T,) integers, the path that names the states, -1 at steps that do not count; None is the most probable
            state of each step at the fit's point, an HMM's states by ascending mean.
        states: of a user's program, site -> the axes of its value that are states; None finds them.

    Raises:
        ModelError: the states are told apart by something, or `states` is needed and missing.
        DataError: a pivot that is no path of the series.
    """
    data, names = opened(fit, series, states)
    path = _pivot_path(fit, data) if pivot is None else torch.as_tensor(pivot)
    if tuple(path.shape) != (data.total_steps,) or int(path.max()) >= names.states or int(path.min()) < -1:
        raise DataError(
            f"pivot must give each of the {data.total_steps} steps a state of 0..{names.states - 1}, or -1, got shape "
            f"{tuple(path.shape)} with values {int(path.min())} to {int(path.max())}; pass a decoded path."
        )
    probabilities = StateProbabilities(fit.model, fit.draws, data, names.states)
    return relabelled(fit, data, names, _agreeing(probabilities, path), "ecr")


def relabel_ecr_iterative(fit: Fit, series: Sequences | None = None, *, states: States | None = None) -> Relabelled:
    """ECR whose pivot is the most probable path of the relabelled draws themselves, improved until nothing changes.

    The second iterative algorithm of Papastamoulis (2016), started from `relabel_ecr`; no single draw rules it.
    Arguments and errors are those of `relabel_ecr`.
    """

    def likeness(average: Tensor) -> Callable[[Tensor], Tensor]:
        chosen = _indicators(average.argmax(-1), average.shape[-1])
        return lambda block: chosen.mT @ block

    return _iterated(fit, series, states, likeness, "ecr iterative")


def relabel_stephens(fit: Fit, series: Sequences | None = None, *, states: States | None = None) -> Relabelled:
    """Stephens (2000), algorithm 2: the names under which the states' probabilities of all draws are most alike.

    Started from `relabel_ecr`. Arguments and errors are those of `relabel_ecr`.
    """
    return _iterated(fit, series, states, _cross_entropy, "stephens")


def _cross_entropy(average: Tensor) -> Callable[[Tensor], Tensor]:
    """sum_t p(t, j) log q(t, k), the part of the divergence that names decide; -inf where q lacks what p has."""
    possible = average > 0
    logs, lacking = torch.where(possible, average, 1.0).log(), (~possible).double()

    def likeness(block: Tensor) -> Tensor:
        found = logs.mT @ block
        return found if bool(possible.all()) else torch.where(lacking.mT @ block > 0, -math.inf, found)

    return likeness


def _iterated(
    fit: Fit,
    series: Sequences | None,
    states: States | None,
    likeness: Callable[[Tensor], Callable[[Tensor], Tensor]],
    how: str,
) -> Relabelled:
    """Average and assignment in turn; `likeness` of an average (T, K) makes (B, T, K) into (B, K, K)."""
    data, names = opened(fit, series, states)
    probabilities = StateProbabilities(fit.model, fit.draws, data, names.states)
    permutations = _agreeing(probabilities, _pivot_path(fit, data))
    best = -math.inf
    for _ in range(ROUNDS):
        measure = likeness(_average(probabilities, permutations))
        alike = torch.cat([measure(block) for _, block in probabilities])
        found = assign(alike)
        value = float(alike.gather(-1, found.unsqueeze(-1)).sum())
        if value <= best + RISEN * abs(value):
            break
        best, permutations = value, found
    return relabelled(fit, data, names, permutations, how)


def _pivot_path(fit: Fit, data: Sequences) -> Tensor:
    """(T,) the most probable state of each step at the fit's point."""
    return fit.model.posterior(pivot_of(fit, data), data).local


def _agreeing(probabilities: StateProbabilities, path: Tensor) -> Tensor:
    """(S, K) the permutations that agree best with a path."""
    chosen = _indicators(path, probabilities.shape[-1])
    return assign(torch.cat([chosen.mT @ block for _, block in probabilities]))


def _indicators(path: Tensor, states: int) -> Tensor:
    """(T, K) one at the state of each step; a row of zeros at -1."""
    return (path.unsqueeze(-1) == torch.arange(states)).double()


def _average(probabilities: StateProbabilities, permutations: Tensor) -> Tensor:
    """(T, K) the mean over draws, each by its names."""
    total = torch.zeros(probabilities.shape[1:], dtype=torch.float64)
    for block, found in probabilities:
        order = permutations[block].unsqueeze(1).expand(found.shape)
        total += found.gather(-1, order).sum(0)
    return total / probabilities.shape[0]
