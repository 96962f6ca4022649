"""Tables that turn a question about a hidden path into one that the recursions answer.

Knowledge of some states makes the others' likelihoods zero; the most accurate path is a Viterbi path whose scores are
the smoothed probabilities themselves. `StatePosterior` asks these questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from probseq.errors import DataError

Arguments = dict[str, Any]
"""What `probseq.kernels` takes: log tables, offsets and indices."""


def known_states(known: Tensor | np.ndarray | Mapping[int, int], states: int, steps: int) -> np.ndarray:
    """(T, K) bool: the states that are left at each step when `known` names some of them.

    Args:
        known: (T,) whole numbers, -1 where unknown; or the states of the known steps by their number.
        states: K.
        steps: T.

    Raises:
        DataError: a shape other than (T,), or a step or a state that there is not.
    """
    values = _by_step(known, steps) if isinstance(known, Mapping) else np.asarray(known)
    if values.shape != (steps,) or values.dtype.kind not in "iu":
        raise DataError(
            f"Known states must be one whole number a step, shape ({steps},), got {values.dtype} of shape "
            f"{values.shape}; give -1 where the state is not known."
        )
    wrong = np.flatnonzero((values < -1) | (values >= states))
    if wrong.size:
        raise DataError(
            f"Known states must lie in 0..{states - 1}, or be -1 where unknown, got {values[wrong[0]]} at step "
            f"{wrong[0]} (from 0 over all sequences); name the state by its number."
        )
    return (values[:, None] == np.arange(states)) | (values[:, None] == -1)


def _by_step(known: Mapping[int, int], steps: int) -> np.ndarray:
    """(T,) the states of the steps that are named, -1 elsewhere."""
    outside = [pair for pair in known.items() if not all(isinstance(number, int | np.integer) for number in pair)]
    outside = outside or [step for step in known if not 0 <= step < steps]
    if outside:
        raise DataError(
            f"Known states by step must be whole numbers for steps 0..{steps - 1} (over all sequences), got "
            f"{outside[0]!r}; write {{2: 0}} for state 0 at step 2."
        )
    values = np.full(steps, -1)
    for step, state in known.items():
        if state < 0:
            raise DataError(
                f"A known state must be a number from 0 on, got {state} at step {step}; leave the step out."
            )
        values[step] = state
    return values


def allowed_states(allowed: Tensor | np.ndarray, states: int, steps: int) -> np.ndarray:
    """(T, K) bool, checked.

    Raises:
        DataError: a shape other than (T, K), a type other than bool, or a step without a state.
    """
    values = np.asarray(allowed)
    if values.shape != (steps, states) or values.dtype != np.bool_:
        raise DataError(
            f"Allowed states must be true or false for each step and state, shape ({steps}, {states}), got "
            f"{values.dtype} of shape {values.shape}; give True where a step may be in a state."
        )
    none = np.flatnonzero(~values.any(1))
    if none.size:
        raise DataError(
            f"Every step must have a state that is allowed, got none at step {none[0]} (from 0 over all sequences); "
            "allow all of them where nothing is known."
        )
    return values


def constrained(arguments: Arguments, allowed: np.ndarray) -> Arguments:
    """The same problem with likelihood zero in the states that are not allowed.

    Rows of the table are kept apart only where both the observation and the knowledge differ, so a table of a few rows
    stays one.

    Args:
        arguments: of the kernels, of K values.
        allowed: (T, K) bool.
    """
    arguments = without_weights(arguments)
    log_table, index = arguments["log_table"], arguments["emission_index"]
    if index is None:
        return arguments | {"log_table": np.where(allowed, log_table, -np.inf)}
    masks, kind = np.unique(allowed, axis=0, return_inverse=True)
    pair = index.astype(np.int64) * len(masks) + kind.reshape(-1)
    used, own = np.unique(pair, return_inverse=True)
    table = np.where(masks[used % len(masks)], log_table[:, used // len(masks)], -np.inf)
    own = own.reshape(-1).astype(np.min_scalar_type(max(0, len(used) - 1)))
    return arguments | {"log_table": table, "emission_index": own}


def without_weights(arguments: Arguments) -> Arguments:
    """The same problem with a row for each step where steps combine rows by weights: rows may be impossible."""
    index = arguments["emission_index"]
    if index is None or index.ndim == 1:
        return arguments
    return arguments | {"log_table": index @ arguments["log_table"], "emission_index": None}


def without_step(arguments: Arguments, log_likelihood: np.ndarray, sequence: int, step: int) -> tuple[Arguments, int]:
    """The problem of one sequence in which one step says nothing, and the place of the step in it.

    Args:
        arguments: of the kernels, semi-Markov ones too.
        log_likelihood: (B, T, K) nats, of each step.
        sequence: its number.
        step: from 0 over all sequences.
    """
    start, end = (int(bound) for bound in arguments["offsets"][sequence : sequence + 2])
    table, moves = log_likelihood[:, start:end].copy(), arguments["transition_index"]
    table[:, step - start] = 0.0
    alone = {"log_table": table, "emission_index": None, "offsets": np.array([0, end - start])}
    return arguments | alone | {"transition_index": None if moves is None else moves[start:end]}, step - start


def accuracy_scores(arguments: Arguments, smoothed: np.ndarray) -> Arguments:
    """The problem whose Viterbi path has the most smoothed probability in all, among the paths that are possible.

    Args:
        arguments: of the kernels, of K values.
        smoothed: (B, T, K) p(z_t = k | x), or what else counts as right.
    """
    arguments = without_weights(arguments)
    log_table, index = arguments["log_table"], arguments["emission_index"]
    by_step = log_table if index is None else log_table[:, index]
    possible = {name: np.where(np.isneginf(arguments[name]), -np.inf, 0.0) for name in _LAWS}
    scores = np.where(np.isneginf(by_step), -np.inf, smoothed)
    return arguments | possible | {"log_table": scores, "emission_index": None}


_LAWS = ("log_initial", "log_transition")
