"""Scores of a fitted hidden chain: d log p(x_t | x_<t) / du for every step, exactly, in one forward pass.

With l_t(k) = log p(z_t = k | x_1:t) and its derivative D_t(k) by the coordinates, the forward recursion and its
derivative run side by side (forward-mode differentiation; Lystig & Hughes 2002):

    q(j) = logsumexp_i [l_t-1(i) + log A(i, j)],   Dq(j) = sum_i w(i | j) [D_t-1(i) + D log A(i, j)]
    log p(x_t | x_<t) = logsumexp_j [q(j) + log b_t(j)]
    d log p(x_t | x_<t) / du = sum_j p(z_t = j | x_1:t) [Dq(j) + D log b_t(j)]

in O(T K^2 p) time, with p coordinates and K values of the chain. Scores of steps add up to those of sequences. Where
the hidden chain is not one of single steps (explicit durations), sequences are differentiated one by one, and steps as
differences between stretches of growing length, in O(T^2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probseq.chains.markov_chain import MarkovChain
from probseq.chains.state_sequence import StateSequence
from probseq.diagnostics.estimates import Estimate
from probseq.errors import FitError, ModelError
from probseq.models.hmm import HMM

Index = np.ndarray | None


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of parts of the data.

    Args:
        rows: (M, p) nats per coordinate.
        weights: (M,) how often each counts.
        sequence: (M,) the sequence that each belongs to, in order.
    """

    rows: Tensor
    weights: Tensor
    sequence: Tensor


@dataclass(frozen=True, eq=False)
class _Tables:
    """What scores a chain, and its derivatives by the coordinates, in front.

    Args:
        initial: (K,) log law of the first value; moves: (S, K, K) log chances; emission: (R, K) log-likelihoods.
        slopes: of the three, (p, K), (p, S, K, K), (p, R, K); zero where the value is -inf.
        chain: for its lengths and its index of moves.
        index: (T,) the row of each step, or None where it is the step.
    """

    values: tuple[Tensor, Tensor, Tensor]
    slopes: tuple[Tensor, Tensor, Tensor]
    chain: MarkovChain
    index: Index


def scores(found: Estimate, per: str) -> Scores:
    """The scores of every sequence or step, at the estimate; the log prior has no part in them.

    Args:
        found: the maximum.
        per: "sequence" or "step".
    """
    if per not in ("sequence", "step"):
        raise FitError(f"per must be 'sequence' or 'step', got {per!r}; choose what the scores are taken by.")
    series = found.series
    weights = torch.ones(series.count, dtype=torch.float64) if series.weights is None else series.weights
    steps = series.step_sequence
    if isinstance(found.model, HMM) and not _markov(found):
        rows = _by_stretch(found) if per == "step" else _by_sequence(found)
    else:
        rows = _by_step(found)
        if per == "sequence":
            rows = rows.new_zeros((series.count, rows.shape[1])).index_add(0, steps, rows)
    whose = steps if per == "step" else torch.arange(series.count)
    return Scores(rows, weights[whose], whose)


def robust_information(found: Scores, lags: int) -> Tensor:
    """(p, p) sum of s s', and of s_t s_t-l' + s_t-l s_t' within sequences with weights 1 - l / (lags + 1).

    Newey & West (1987), equation 5: never negative.
    """
    if lags < 0:
        raise FitError(f"lags must be at least 0, got {lags}; 0 takes the scores as uncorrelated.")
    weighted = found.rows * found.weights.unsqueeze(-1)
    total = found.rows.mT @ weighted
    for lag in range(1, lags + 1):
        same = (found.sequence[lag:] == found.sequence[:-lag]).unsqueeze(-1)
        cross = found.rows[:-lag].mT @ torch.where(same, weighted[lag:], 0.0)
        total = total + (1.0 - lag / (lags + 1)) * (cross + cross.mT)
    return total


# ---- in one pass --------------------------------------------------------------------------------------------------


def _markov(found: Estimate) -> bool:
    assert isinstance(found.model, HMM)
    return isinstance(found.model.chain(found.parameters, found.series), MarkovChain)


def _by_step(found: Estimate) -> Tensor:
    """(T, p) of every chain of the model, added up."""
    return sum((_forward(tables) for tables in _tables(found)), torch.zeros((), dtype=torch.float64))


def _tables(found: Estimate) -> list[_Tables]:
    """One a chain."""
    model, series = found.model, found.series
    if isinstance(model, HMM):
        return [_differentiated(found, lambda at: _of_model(model, at, found))]
    chains, other, _ = model.score(found.parameters, series)
    start = found.start.clone().requires_grad_()
    with torch.enable_grad():
        other = model.score(found.at(start), series)[1]
    if other.requires_grad and bool(torch.autograd.grad(other, start)[0].abs().max() > 0):
        raise ModelError(
            "Scores of a program must be those of observed sites that depend on a state, got parameters that act on "
            "others; use standard_errors or bootstrap."
        )
    bad = [chain.name for chain in chains if not isinstance(chain.law, MarkovChain) or chain.law.batch_shape]
    if bad:
        raise ModelError(
            f"Scores of a program must be of MarkovChain sites, got another chain at {bad}; use bootstrap."
        )

    def read(number: int) -> Callable[[dict[str, Tensor]], tuple[StateSequence, Tensor, Index]]:
        def at(parameters: dict[str, Tensor]) -> tuple[StateSequence, Tensor, Index]:
            chain = model.score(parameters, series)[0][number]
            return chain.law, chain.log_table * chain.scale, None

        return at

    return [_differentiated(found, read(number)) for number in range(len(chains))]


def _of_model(model: HMM, parameters: dict[str, Tensor], found: Estimate) -> tuple[StateSequence, Tensor, Index]:
    table, index = model.scores(parameters, found.series, by_sums=False)
    return model.chain(parameters, found.series), torch.as_tensor(table), index


def _differentiated(
    found: Estimate, read: Callable[[dict[str, Tensor]], tuple[StateSequence, Tensor, Index]]
) -> _Tables:
    """A chain's tables and their derivatives, a column a coordinate.

    Reverse mode twice is forward mode: with g(v) = v' J, linear in v, the column J e_p is the derivative of g_p by v.
    """
    start = found.start.clone().requires_grad_()
    with torch.enable_grad():
        chain, table, index = read(found.at(start))
        assert isinstance(chain, MarkovChain)
        values = (chain.log_initial, chain.log_transitions, table)
        weights = [torch.zeros_like(value, requires_grad=True) for value in values]
        possible = [torch.where(torch.isfinite(value), value, 0.0) for value in values]
        moving = [i for i, value in enumerate(possible) if value.requires_grad]
        slopes = [torch.zeros((len(start), *value.shape), dtype=torch.float64) for value in values]
        if moving and len(start):
            (pulled,) = torch.autograd.grad(
                [possible[i] for i in moving], start, [weights[i] for i in moving], create_graph=True
            )
            for p in range(len(start)):
                columns = torch.autograd.grad(
                    pulled[p], [weights[i] for i in moving], retain_graph=True, allow_unused=True
                )
                for i, column in zip(moving, columns, strict=True):
                    if column is not None:
                        slopes[i][p] = column
    done = tuple(value.detach() for value in values)
    return _Tables(done, tuple(slopes), chain, index)  # type: ignore[arg-type]


def _forward(tables: _Tables) -> Tensor:
    """(T, p) scores of one chain; all sequences advance together."""
    (initial, moves, emission), (d_initial, d_moves, d_emission) = tables.values, tables.slopes
    chain, lengths = tables.chain, tables.chain.lengths
    steps = chain.total_steps
    row = torch.arange(steps) if tables.index is None else torch.from_numpy(tables.index.astype(np.int64))
    which = chain.transition_index
    move = (
        torch.zeros(steps, dtype=torch.int64) if which is None else torch.as_tensor(np.asarray(which).astype(np.int64))
    )
    d_initial, d_moves, d_emission = d_initial, d_moves.movedim(0, 1), d_emission.movedim(0, 1)
    result = torch.zeros((steps, len(d_initial)), dtype=torch.float64)
    first = lengths.cumsum(0) - lengths
    order = lengths.argsort(descending=True, stable=True)
    law, slope = initial.expand(len(lengths), -1), d_initial.expand(len(lengths), -1, -1)  # (n, K), (n, p, K)
    for age in range(int(lengths.max())):
        running = order[: int((lengths > age).sum())]
        at = first[running] + age
        law, slope = law[: len(running)], slope[: len(running)]
        if age:
            matrix = moves[move[at - 1]]  # (n, K, K)
            paths = law.unsqueeze(-1) + matrix
            law = paths.logsumexp(-2)
            shares = (paths - law.unsqueeze(-2)).exp().nan_to_num(nan=0.0)
            slope = torch.einsum("nij,npij->npj", shares, slope.unsqueeze(-1) + d_moves[move[at - 1]])
        law, slope = law + emission[row[at]], slope + d_emission[row[at]]
        total = law.logsumexp(-1, keepdim=True)
        law = law - total
        step = torch.einsum("nk,npk->np", law.exp(), slope)
        result[at] = step
        slope = slope - step.unsqueeze(-1)
    return result


# ---- one by one ----------------------------------------------------------------------------------------------------


def _slope(found: Estimate, part: object) -> Tensor:
    """(p,) derivative of the log-likelihood, not weighted, of some of the data."""
    start = found.start.clone().requires_grad_()
    with torch.enable_grad():
        value = found.model.log_joint(found.at(start), part, False)  # type: ignore[arg-type]
        return torch.autograd.grad(value, start)[0]


def _by_sequence(found: Estimate) -> Tensor:
    """(N, p), a sequence at a time."""
    from dataclasses import replace

    series = replace(found.series, weights=None)
    return torch.stack([_slope(found, series.take([n])) for n in range(series.count)])


def _by_stretch(found: Estimate) -> Tensor:
    """(T, p), the difference that each step makes to the stretch before it."""
    from dataclasses import replace

    series, rows = replace(found.series, weights=None), []
    for n in range(series.count):
        part = series.take([n])
        before = torch.zeros(len(found.start), dtype=torch.float64)
        for length in range(1, part.total_steps + 1):
            stretch = part if length == part.total_steps else part.split(length)[0]
            after = _slope(found, stretch)
            rows.append(after - before)
            before = after
    return torch.stack(rows)
