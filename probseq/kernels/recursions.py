"""The recursions over time, all: evidence, expected counts, filter, smoother, steps left out, Viterbi, k-best, paths.

Everything else in probseq that walks over time calls one of these. The gradient of the evidence in (log initial, log
transition, log table) is `expected_counts`, so it is EM's E-step and the backward pass of SVI and NUTS alike.

The arguments common to all, for B draws, N sequences, T steps, K states, S matrices and R emission rows:
    log_initial (B, I, K): log p(z_1 = k); I = 1 shared by the sequences, or I = N
    log_transition (B, S, K, K): log p(z_t+1 = j | z_t = i) at [i, j]
    log_table (B, R, K): log-likelihood of each emission row in each state, nats; -inf is legal
    offsets (N + 1,): sequence n holds steps offsets[n] .. offsets[n+1] - 1
    emission_index (T,): row of log_table of each step; None when step t has row t (R = T); or (T, R) weights by which
        each step combines the rows: its log-likelihoods are weights @ log_table, entries of which must then be finite
    transition_index (T,): matrix of the move from step t to t + 1, unread at the last step of a sequence; None: S = 1
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probseq.kernels.inputs import Floats, Inputs, prepare, read_only, refuse_bad, refuse_nan

Paths = NDArray[np.int32]
_ONES = read_only(np.empty((0, 0)))


@dataclass(frozen=True, eq=False)
class ExpectedCounts:
    """Evidence and its gradient in the tables.

    evidence (B, N): log p(x_n), nats; -inf for an impossible sequence, which adds nothing to the counts
    initial (B, I, K): weighted sum of p(z_1 = k | x)
    transition (B, S, K, K): weighted expected number of moves i -> j under each matrix
    emission (B, R, K): weighted expected number of steps in state k that emitted each row (times its weight there)
    """

    evidence: Floats
    initial: Floats
    transition: Floats
    emission: Floats


def evidence(
    log_initial: ArrayLike,
    log_transition: ArrayLike,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
) -> Floats:
    """log p(x_n) of each sequence, shape (B, N), in nats; -inf where the model makes it impossible."""
    inputs = prepare(log_initial, log_transition, log_table, offsets, emission_index, transition_index)
    result = np.empty((inputs.draws, inputs.count))
    _schedule().fill_evidence(inputs, result)
    return result


def expected_counts(
    log_initial: ArrayLike,
    log_transition: ArrayLike,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> ExpectedCounts:
    """Evidence and expected counts by forward-backward; sequence n of draw b counts weights[b, n] times (default 1)."""
    inputs = prepare(log_initial, log_transition, log_table, offsets, emission_index, transition_index)
    result = ExpectedCounts(
        evidence=np.empty((inputs.draws, inputs.count)),
        initial=np.zeros(inputs.log_initial.shape),
        transition=np.zeros(inputs.log_transition.shape),
        emission=(np.zeros if inputs.tabled else np.empty)(inputs.log_table.shape),
    )
    _count(inputs, weights, False, result)
    return result


def filtered(
    log_initial: ArrayLike,
    log_transition: ArrayLike,
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
    inputs = prepare(log_initial, log_transition, log_table, offsets, emission_index, transition_index)
    states = np.empty((inputs.draws, inputs.steps, inputs.states))
    predictive = np.empty((inputs.draws, inputs.steps))
    result = np.empty((inputs.draws, inputs.count))
    _schedule().fill_filtered(inputs, result, states, predictive)
    return states, predictive


def smoothed(
    log_initial: ArrayLike,
    log_transition: ArrayLike,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
) -> Floats:
    """p(z_t = k | x_1:T) of every step, shape (B, T, K); zeros throughout an impossible sequence."""
    inputs = prepare(log_initial, log_transition, log_table, offsets, emission_index, transition_index)
    result = ExpectedCounts(
        evidence=np.empty((inputs.draws, inputs.count)),
        initial=np.zeros(inputs.log_initial.shape),
        transition=np.zeros(inputs.log_transition.shape),
        emission=np.empty((inputs.draws, inputs.steps, inputs.states)),
    )
    _count(inputs, None, True, result)
    return result.emission


def viterbi(
    log_initial: ArrayLike,
    log_transition: ArrayLike,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
) -> tuple[Paths, Floats]:
    """The likeliest path of each sequence; a tie goes to the lowest state.

    Returns:
        paths (B, T): states, -1 throughout an impossible sequence
        log_prob (B, N): log p(x, path), nats; -inf for an impossible sequence
    """
    inputs = prepare(log_initial, log_transition, log_table, offsets, emission_index, transition_index)
    refuse_bad(inputs, with_table=inputs.tabled)
    paths = np.empty((inputs.draws, inputs.steps), np.int32)
    log_prob = np.empty((inputs.draws, inputs.count))
    _schedule().fill_viterbi(inputs, log_prob, paths)
    refuse_nan(inputs, log_prob)
    return paths, log_prob


def sample_paths(
    log_initial: ArrayLike,
    log_transition: ArrayLike,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
    *,
    uniforms: ArrayLike,
) -> Paths:
    """M paths (B, M, T) drawn from p(z | x) by backward sampling; -1 throughout an impossible sequence.

    Args:
        uniforms (B, M, T): independent draws from [0, 1); the same uniforms give the same paths. All M share one
            forward pass.
    """
    inputs = prepare(log_initial, log_transition, log_table, offsets, emission_index, transition_index)
    points = np.ascontiguousarray(uniforms, dtype=np.float64)
    if points.ndim != 3 or points.shape[::2] != (inputs.draws, inputs.steps):
        expected = f"({inputs.draws}, M, {inputs.steps})"
        raise ValueError(f"uniforms must have shape {expected}, got {points.shape}; give one per draw, path and step.")
    points = read_only(points)
    paths = np.empty(points.shape, np.int32)
    result = np.empty((inputs.draws, inputs.count))
    _schedule().fill_samples(inputs, points, result, paths)
    return paths


def simulate_paths(
    log_initial: ArrayLike,
    log_transition: ArrayLike,
    offsets: ArrayLike,
    transition_index: ArrayLike | None = None,
    *,
    uniforms: ArrayLike,
) -> Paths:
    """Paths (B, T) drawn from the chain, without data; uniforms (B, T) as in `sample_paths`."""
    log_initial = np.ascontiguousarray(log_initial, dtype=np.float64)
    table = np.zeros((log_initial.shape[0], 1, log_initial.shape[-1]))
    steps = int(np.asarray(offsets)[-1])
    inputs = prepare(log_initial, log_transition, table, offsets, np.zeros(steps, np.uint8), transition_index)
    points = _per_draw(uniforms, (inputs.draws, inputs.steps), "uniforms")
    paths = np.empty((inputs.draws, inputs.steps), np.int32)
    refuse_bad(inputs, with_table=False)
    _schedule().fill_simulated(inputs, points, paths)
    return paths


def _count(inputs: Inputs, weights: ArrayLike | None, by_step: bool, result: ExpectedCounts) -> None:
    shape = (inputs.draws, inputs.count)
    per_sequence = _ONES if weights is None else _per_draw(weights, shape, "weights")
    schedule = _schedule()
    sums = schedule.Sums(result.evidence, result.initial, result.transition, result.emission, by_step)
    schedule.add_counts(inputs, per_sequence, sums)


def _per_draw(values: ArrayLike, shape: tuple[int, int], name: str) -> Floats:
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}; give one per draw and entry.")
    return read_only(array)


def _schedule() -> ModuleType:
    from probseq.kernels import schedule  # numba is imported by the first recursion, not by `import probseq`

    return schedule


def k_best(
    log_initial: ArrayLike,
    log_transition: ArrayLike,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
    *,
    count: int,
) -> tuple[Paths, Floats]:
    """The `count` likeliest paths of each sequence, the best first; of equal ones that from the lower state.

    Returns:
        paths (B, count, T): states, -1 throughout where a sequence has fewer possible paths
        log_prob (B, count, N): log p(x, path), nats, falling along the ranks; -inf where there is no such path
    """
    inputs = prepare(log_initial, log_transition, log_table, offsets, emission_index, transition_index)
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}; ask for one path or more.")
    from probseq.kernels.k_best_paths import fill_k_best

    refuse_bad(inputs, with_table=inputs.emission.width != 0)
    paths = np.empty((inputs.draws, count, inputs.steps), np.int32)
    log_prob = np.empty((inputs.draws, count, inputs.count))
    fill_k_best(inputs, log_prob, paths)
    refuse_nan(inputs, log_prob)
    return paths, log_prob


def left_out(
    log_initial: ArrayLike,
    log_transition: ArrayLike,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """What all other steps of its sequence, x_-t, say of each.

    Returns:
        cavity (B, T, K): log p(z_t = k | x_-t), nats; -inf in every state where x_-t is impossible
        log_prob (B, T): log p(x_t | x_-t), nats; -inf throughout an impossible sequence
    """
    inputs = prepare(log_initial, log_transition, log_table, offsets, emission_index, transition_index)
    from probseq.kernels.steps_left_out import fill_left_out

    refuse_bad(inputs, with_table=True)
    cavity, log_prob = np.empty((inputs.draws, inputs.steps, inputs.states)), np.empty((inputs.draws, inputs.steps))
    fill_left_out(inputs, cavity, log_prob)
    return cavity, log_prob
