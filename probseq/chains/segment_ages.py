"""A semi-Markov chain as the Markov chain of (state, steps since it was entered), which has the same paths.

    go(a) = P(d > a) / P(d >= a)   to (k, a + 1),     the rest of it times A[k, j]   to (j, 1)

The last age stands for D steps or more and is left with probability 1 - stay at each. A path of states has one path of
ages, so that the best paths and the entropy of this chain are those of the other (Langrock & Zucchini 2011). It has K D
values, twice as many where the first segment has a law of its own: the recursions of `kernels.semi_markov` are for
everything that they can answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from probseq.errors import ModelError
from probseq.kernels.inputs import Floats
from probseq.kernels.semi_markov import SemiMarkovLaws

MOST_MOVES = 1 << 25
"""Entries of all matrices between ages, and of a table of their emissions, that may be made: 256 MB."""


def by_age(arguments: dict[str, Any]) -> dict[str, Any]:
    """What `probseq.kernels` takes for a Markov chain of codes k + K (age), of what `semi_markov` takes.

    The ages of a segment are 0..D-1, and D..2D-2 those of a first one whose law is another.

    Raises:
        ModelError: there are too many.
    """
    laws: SemiMarkovLaws = arguments["laws"]
    table, moves = np.asarray(arguments["log_table"]), np.asarray(laws.log_transition)
    duration, first = np.asarray(laws.log_duration), np.asarray(laws.log_first)
    draws, states, longest = duration.shape
    own = longest > 1 and not np.array_equal(first, duration)
    ages = 2 * longest - 1 if own else longest
    if max(moves.shape[1] * ages * states * ages, table.shape[1] * ages) * draws * states > MOST_MOVES:
        raise ModelError(
            f"The paths of a semi-Markov chain must have at most {MOST_MOVES:,} moves between ages of its states to be "
            f"ranked, got {states} states of {longest} ages over {table.shape[1]} rows; use sample or viterbi, or "
            "durations with a smaller max."
        )
    end, go = _hazards(duration)
    end[..., -1], go[..., -1] = laws.log_leave, laws.log_stay
    after = np.minimum(np.arange(1, longest + 1), longest - 1)
    if own:
        end_first, go_first = _hazards(first)
        end, go = (np.concatenate([a, b[..., :-1]], -1) for a, b in ((end, end_first), (go, go_first)))
        after = np.append(after, np.append(np.arange(longest + 1, ages), longest - 1))
    matrices = np.full((draws, moves.shape[1], ages, states, ages, states), -np.inf)
    matrices[:, :, :, :, 0] = end.swapaxes(1, 2)[:, None, :, :, None] + moves[:, :, None]
    for age in range(ages):
        for k in range(states):
            place = matrices[:, :, age, k, after[age], k]
            place[:] = np.maximum(place, go[:, None, k, age])
    initial = np.asarray(laws.log_initial)
    begun = np.full((*initial.shape[:-1], ages, states), -np.inf)
    begun[..., longest if own else 0, :] = initial
    return {
        "log_initial": begun.reshape(*initial.shape[:-1], -1),
        "log_transition": matrices.reshape(draws, moves.shape[1], ages * states, ages * states),
        "log_table": np.tile(table, ages),
        "offsets": arguments["offsets"],
        "emission_index": arguments["emission_index"],
        "transition_index": arguments["transition_index"],
    }


def _hazards(log_duration: Floats) -> tuple[Floats, Floats]:
    """(B, K, D) nats: log probability to end at each age once it is reached, and to go on; -inf where it never is."""
    beyond = np.logaddexp.accumulate(log_duration[..., ::-1], -1)[..., ::-1]
    reached = np.where(np.isneginf(beyond), 0.0, beyond)
    later = np.concatenate([beyond[..., 1:], np.full_like(beyond[..., :1], -np.inf)], -1)
    return log_duration - reached, later - reached
