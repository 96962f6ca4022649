"""The Viterbi path of one long sequence as runs of one state, in memory that does not grow with the path.

The recursion and its segments are those of `decoding`; only the way back differs, which keeps where the state changes
instead of the state of every step. A chromosome's path is a few thousand runs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probseq.kernels import decoding
from probseq.kernels.bits import row_at
from probseq.kernels.decoding import climb_segments, climber_for, padded
from probseq.kernels.inputs import prepare, refuse_bad
from probseq.kernels.jit import entry, kernel
from probseq.kernels.kit import invoke, shape_for


def viterbi_runs(
    log_initial: ArrayLike,
    log_transition: ArrayLike,
    log_table: ArrayLike,
    offsets: ArrayLike,
    emission_index: ArrayLike | None = None,
    transition_index: ArrayLike | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """The likeliest path of one sequence under one set of parameters; arguments as in `recursions`, B = N = 1.

    Returns:
        starts (n,): the first step of each run
        states (n,): its state, another than that of the run before
        log_prob: log p(x, path), nats; -inf, and no runs, if the sequence is impossible
    """
    inputs = prepare(log_initial, log_transition, log_table, offsets, emission_index, transition_index)
    if inputs.draws != 1 or inputs.count != 1 or inputs.steps < 1:
        raise ValueError(f"runs must be of one sequence, got {inputs.draws} draws of {inputs.count}; take one.")
    climber = climber_for(shape_for(inputs.states))
    starts, states, value = run_range(climber, *inputs.arrays, decoding.ROOM)
    if np.isnan(value):
        refuse_bad(inputs, with_table=True)
    return starts, states, float(value)


@entry
def run_range(climber, log_initial, log_transition, log_table, offsets, indices, room):
    """Starts and states of the runs of the one sequence, and its log joint; room: bytes for the back-pointers."""
    start, end, width = offsets[0], offsets[1], climber[0]
    segment = max(decoding.LEVEL, min(end - start, room // (width * climber[1])))
    back, delta = np.empty(segment * width * climber[1], np.uint8), np.empty(width)
    kept = np.empty(((end - start + segment - 1) // segment, width))
    law = log_initial[0, 0]
    tables = (law.size, padded(width, log_transition[0]), log_table[0].ravel())
    tables = tables + indices[:4] + (indices[4], indices[4].shape[1])
    bounds = start, end, segment
    value = climb_segments(climber, bounds, law, tables, kept, delta, back)
    if not value > -np.inf:
        return np.empty(0, np.int64), np.empty(0, np.int64), value
    starts, states = trace_runs(climber, bounds, tables, kept, delta, back)
    return starts[::-1].copy(), states[::-1].copy(), value


@kernel
def trace_runs(climber, bounds, tables, kept, delta, back):
    """Follow the back-pointers from the last step to the first; starts and states of the runs, the last run first."""
    start, end, segment = bounds
    state, count = np.int64(0), 0
    starts, states = np.empty(1024, np.int64), np.empty(1024, np.int64)
    for k in range(1, delta.size):
        state = k if delta[k] > delta[state] else state
    final = (end - start - 1) // segment
    for k in range(final, -1, -1):
        low, high = start + k * segment, min(start + (k + 1) * segment, end)
        if k < final:
            for i in range(delta.size):
                delta[i] = kept[k, i]
            invoke(climber[2], (low, high, start) + tables + (delta, back))
        for step in range(high - 1, low - 1, -1):
            before = row_at(back, climber[1], (step - low) * delta.size + state) if step > start else np.int64(-1)
            if before != state:
                if count == starts.size:
                    starts, states = doubled(starts), doubled(states)
                starts[count], states[count] = step, state
                count += 1
            state = before
    return starts[:count], states[:count]


@kernel
def doubled(array):
    """The array with as much room again behind it."""
    longer = np.empty(2 * array.size, array.dtype)
    longer[: array.size] = array
    return longer
