"""The recursions of the hidden semi-Markov chain: evidence, expected counts, filter, smoother, Viterbi, sampled paths.

    z = segments (k_1, d_1), (k_2, d_2), ...:   k_1 ~ initial,  k_{m+1} | k_m ~ A[k_m],  d_1 ~ first[k_1],  d_m ~ p[k_m]

A segment of state k lasts d steps with probability p(d), d = 1..D; but the last entry is the probability of D steps or
more, of which each further one comes with probability stay: P(d = D + n) = p(D) stay^n (1 - stay). So stay = 0 is a law
of at most D steps, D = 1 is the geometric law, and anything between has a geometric tail (Langrock & Zucchini 2011);
nothing is truncated or approximated. The first segment has a law of its own, which is p where it begins with the data,
and the law of the residual life where it was on its way. The data may cut the last segment off at any point: it counts
with its survivor function (Guédon 2003). Ferguson (1980); O(T (K^2 + K D)).

B draws, N sequences, T steps in all, K states, S matrices, R rows. The gradient of the evidence in every log table is
its expected count, `expected_counts`. Numbers have unlimited range, so that no length and no likelihood underflows;
memory is the answer and a few dozen MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probseq.kernels.inputs import Floats, Inputs, prepare, read_only, refuse_nan
from probseq.kernels.semi_markov_digits import least_step, within_digits
from probseq.kernels.threads import run

Paths = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class SemiMarkovLaws:
    """The laws of the segments as logarithms, nats; -inf is legal.

    Args:
        log_initial: (B, I, K) log p(z_1 = k); I = 1 shared by the sequences, or I = N.
        log_transition: (B, S, K, K) log p(next segment is of j | one of i ends) at [i, j].
        log_duration: (B, K, D) log p(d | k), d = 1..D; the last entry is of D steps or more.
        log_first: (B, K, D) the same of the first segment.
        log_stay: (B, K) log probability of each step beyond D; -inf: none lasts longer.
        log_leave: (B, K) log(1 - stay).
    """

    log_initial: ArrayLike
    log_transition: ArrayLike
    log_duration: ArrayLike
    log_first: ArrayLike
    log_stay: ArrayLike
    log_leave: ArrayLike


@dataclass(frozen=True, eq=False)
class SemiMarkovCounts:
    """Evidence and its gradient in the tables: expected numbers given the data, weighted.

    evidence (B, N): log p(x_n), nats; -inf for an impossible sequence, which adds nothing to the counts
    initial (B, I, K): sequences that begin in state k
    transition (B, S, K, K): moves between segments i -> j under each matrix
    duration (B, K, D): segments after the first by their length, the last entry those of D or more. Those that the
        data cut off are counted by their law given that they lasted as long as was seen.
    first (B, K, D): the same of first segments
    stay, leave (B, K): steps beyond D, and ends of segments of D or more, within the data
    emission (B, R, K): steps in state k that emitted each row
    """

    evidence: Floats
    initial: Floats
    transition: Floats
    duration: Floats
    first: Floats
    stay: Floats
    leave: Floats
    emission: Floats


def evidence(
    laws: SemiMarkovLaws,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
) -> Floats:
    """log p(x_n) of each sequence, shape (B, N), in nats; -inf where the model makes it impossible.

    Args:
        laws: of the segments.
        log_table: (B, R, K) log-likelihood of each emission row in each state; -inf is legal.
        offsets: (N + 1,) sequence n holds steps offsets[n] .. offsets[n+1] - 1.
        emission_index: (T,) row of log_table of each step; None when step t has row t; (T, R) weights combine the
            rows, so that the log-likelihoods are weights @ log_table.
        transition_index: (T,) matrix of the move from step t to t + 1; None when S = 1.
    """
    inputs, tables = _checked(laws, log_table, offsets, emission_index, transition_index)
    near = within_digits(tables[-1], _longest(inputs))
    return _told_apart(inputs, tables, near, _evidence(inputs, (*tables[:-1], near)))


def expected_counts(
    laws: SemiMarkovLaws,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> SemiMarkovCounts:
    """Evidence and expected counts; sequence n of draw b counts weights[b, n] times (default 1); else as `evidence`."""
    inputs, tables = _checked(laws, log_table, offsets, emission_index, transition_index)
    return _counted(inputs, tables, weights, by_step=False)


def smoothed(
    laws: SemiMarkovLaws,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
) -> Floats:
    """p(z_t = k | x_1:T) of every step, shape (B, T, K); zeros throughout an impossible sequence."""
    inputs, tables = _checked(laws, log_table, offsets, emission_index, transition_index)
    return _counted(inputs, tables, None, by_step=True).emission


def filtered(
    laws: SemiMarkovLaws,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Filtered states and one-step predictive log densities.

    Returns:
        filtered (B, T, K): p(z_t = k | x_1:t); zeros from the first impossible step of a sequence on
        predictive (B, T): log p(x_t | x_1:t-1), nats; -inf from the first impossible step on
    """
    inputs, tables = _checked(laws, log_table, offsets, emission_index, transition_index)
    states = np.empty((inputs.draws, inputs.steps, inputs.states))
    predictive, result = np.empty((inputs.draws, inputs.steps)), np.empty((inputs.draws, inputs.count))
    arguments = tables, inputs.offsets, inputs.arrays[-1], result, states, predictive
    _each(inputs, _compiled().filter_range, arguments)
    refuse_nan(inputs, result)
    return states, predictive


def viterbi(
    laws: SemiMarkovLaws,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
) -> tuple[Paths, Floats]:
    """The likeliest path of each sequence, the length of a last segment that the data cut off summed out.

    Returns:
        paths (B, T): states, -1 throughout an impossible sequence
        log_prob (B, N): log p(x, path), nats; -inf for an impossible sequence
    """
    from probseq.kernels.semi_markov_viterbi import viterbi_range

    inputs, tables = _checked(laws, log_table, offsets, emission_index, transition_index)
    paths, log_prob = np.empty((inputs.draws, inputs.steps), np.int32), np.empty((inputs.draws, inputs.count))
    _each(inputs, viterbi_range, (tables, inputs.offsets, inputs.arrays[-1], log_prob, paths))
    refuse_nan(inputs, log_prob)
    return paths, log_prob


def sample_paths(
    laws: SemiMarkovLaws,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
    *,
    uniforms: ArrayLike,
) -> Paths:
    """Paths (B, T) drawn from p(z | x) by backward sampling of segments; -1 throughout an impossible sequence.

    Args:
        laws, log_table, offsets, emission_index, transition_index: as for `evidence`.
        uniforms: (B, T, 3) independent draws from [0, 1); the same uniforms give the same paths.
    """
    from probseq.kernels.semi_markov_paths import sample_range

    inputs, tables = _checked(laws, log_table, offsets, emission_index, transition_index)
    points = _shaped(uniforms, (inputs.draws, inputs.steps, 3), "uniforms")
    paths, result = np.empty((inputs.draws, inputs.steps), np.int32), np.empty((inputs.draws, inputs.count))
    _each(inputs, sample_range, (tables, inputs.offsets, inputs.arrays[-1], points, result, paths))
    refuse_nan(inputs, result)
    return paths


def simulate_paths(
    laws: SemiMarkovLaws, offsets: ArrayLike, transition_index: ArrayLike | None = None, *, uniforms: ArrayLike
) -> Paths:
    """Paths (B, T) drawn from the chain, without data; uniforms (B, T, 3) as in `sample_paths`."""
    from probseq.kernels.semi_markov_paths import simulate_range

    draws, states = np.shape(laws.log_duration)[:2]
    steps = int(np.asarray(offsets)[-1])
    table = np.zeros((draws, 1, states))
    inputs, tables = _checked(laws, table, offsets, np.zeros(steps, np.uint8), transition_index)
    points = _shaped(uniforms, (inputs.draws, inputs.steps, 3), "uniforms")
    paths = np.empty((inputs.draws, inputs.steps), np.int32)
    _each(inputs, simulate_range, (tables, inputs.offsets, inputs.arrays[-1], points, paths))
    return paths


def _evidence(inputs: Inputs, tables: tuple[Floats, ...]) -> Floats:
    result = np.empty((inputs.draws, inputs.count))
    _each(inputs, _compiled().evidence_range, (tables, inputs.offsets, inputs.arrays[-1], result))
    refuse_nan(inputs, result)
    return result


def _told_apart(inputs: Inputs, tables: tuple[Floats, ...], near: Floats, found: Floats) -> Floats:
    """The evidence `found` with the table `near`; with the table itself where no path avoids what was raised."""
    if near is tables[-1]:
        return found
    forced = found < -0.5 * least_step(_longest(inputs))
    return np.where(forced, _evidence(inputs, tables), found)


def _longest(inputs: Inputs) -> int:
    return int(np.diff(inputs.offsets).max(initial=1))


def _counted(inputs: Inputs, tables: tuple[Floats, ...], weights: ArrayLike | None, by_step: bool) -> SemiMarkovCounts:
    """Counts, each thread with sums of its own; emission by step where asked, or where no steps share a row."""
    shape = inputs.draws, inputs.count
    near = within_digits(tables[-1], _longest(inputs))
    per_sequence = read_only(np.empty((0, 0))) if weights is None else _shaped(weights, shape, "weights")
    dense = by_step or inputs.emission.width == 0
    steps = np.empty((inputs.draws, inputs.steps if dense else 0, inputs.states))
    result, ranges = np.empty(shape), _chunks(inputs)

    def nothing() -> list[Floats]:
        rows = np.zeros((inputs.draws, 0 if dense else tables[-1].shape[1], inputs.states))
        return [*(np.zeros(table.shape) for table in tables[:-1]), rows]

    def count(first: int, last: int) -> list[Floats]:
        sums = nothing()
        arguments = (*tables[:-1], near), inputs.offsets, inputs.arrays[-1], per_sequence, steps, result
        _compiled().count_range(first, last, *arguments, sums[0], tuple(sums[1:]))
        return sums

    parts: list[Any] = run([partial(count, *chunk) for chunk in ranges]) or [nothing()]
    refuse_nan(inputs, result)
    result = _told_apart(inputs, tables, near, result)
    sums: list[Any] = [sum((part[i] for part in parts[1:]), parts[0][i]) for i in range(len(tables))]
    emission = steps if dense else sums[-1]
    if inputs.row_weights.size and not by_step:
        emission = inputs.row_weights.T @ steps
    return SemiMarkovCounts(result, *sums[:-1], emission=emission)


def _checked(
    laws: SemiMarkovLaws,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None,
    transition_index: ArrayLike | None,
) -> tuple[Inputs, tuple[Floats, ...]]:
    """The common inputs, and all tables in the order that the compiled loops take them."""
    inputs = prepare(laws.log_initial, laws.log_transition, log_table, offsets, emission_index, transition_index)
    states = inputs.draws, inputs.states
    duration = np.asarray(laws.log_duration, dtype=np.float64)
    if duration.ndim != 3 or duration.shape[:2] != states or duration.shape[2] < 1:
        raise ValueError(f"log_duration must have shape {(*states, 'D')}, got {duration.shape}; give a row a state.")
    laws_of_segments = {
        "log_duration": _shaped(duration, duration.shape, "log_duration"),
        "log_first": _shaped(laws.log_first, duration.shape, "log_first"),
        "log_stay": _shaped(laws.log_stay, states, "log_stay"),
        "log_leave": _shaped(laws.log_leave, states, "log_leave"),
    }
    for name, table in laws_of_segments.items():
        if table.size and not table.max() < np.inf:  # a NaN fails the comparison too
            raise ValueError(f"{name} must hold log-probabilities below infinity, got a NaN or inf; check the law.")
    combined = inputs.row_weights @ inputs.log_table if inputs.row_weights.size else inputs.log_table
    return inputs, (inputs.log_initial, inputs.log_transition, *laws_of_segments.values(), combined)


def _shaped(values: ArrayLike, shape: tuple[int, ...], name: str) -> Floats:
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}; give one value for each entry.")
    return read_only(array)


def _each(inputs: Inputs, loop: Any, arguments: tuple) -> None:
    """Run a loop over ranges of items, one for each thread that pays."""
    run([partial(loop, *chunk, *arguments) for chunk in _chunks(inputs)])


def _chunks(inputs: Inputs) -> list[tuple[int, int]]:
    from probseq.kernels.schedule import chunks  # numba is imported by the first recursion

    return chunks(inputs)


def _compiled() -> Any:
    from probseq.kernels import semi_markov_compiled

    return semi_markov_compiled
