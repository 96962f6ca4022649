"""The law of a hidden path by its definition, one for each kind of chain, with nothing of the code under test.

A `PathLaw` is given the parameters as numpy arrays, the paths (P, L + m - 1) of one sequence, with the m - 1 states
that a model of memory m remembers from before its first step, m, and the design row (L, W) of each step; it returns
the logarithm of each path's probability, (P,).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import special, stats

Numbers = dict[str, np.ndarray]
PathLaw = Callable[[Numbers, np.ndarray, int, np.ndarray], np.ndarray]
Matrix = Callable[[Numbers], np.ndarray]


def markov(matrix: Matrix, *, by_step: bool = False, stationary: bool = False) -> PathLaw:
    """Moves from step to step.

    Args:
        matrix: (K, .., K), the oldest state first; by step (L, K, K), the moves that enter each.
        by_step: whether the moves vary.
        stationary: whether the first state follows from the moves (of order 1), rather than its own law.
    """

    def law(parameters: Numbers, paths: np.ndarray, memory: int, rows: np.ndarray) -> np.ndarray:
        moves = matrix(parameters | {"rows": rows})
        order = 1 if by_step else moves.ndim - 1
        known = 1 if stationary else memory  # states that the law of the first ones covers
        code = sum(paths[:, known - 1 - back] * moves.shape[-1] ** back for back in range(known))
        with np.errstate(divide="ignore"):
            total = np.log((resting(moves) if stationary else parameters["initial"])[code])
            for t in range(known, paths.shape[1]):
                now = moves[t - memory + 1] if by_step else moves
                total = total + np.log(now[tuple(paths[:, t - order + n] for n in range(order + 1))])
        return total

    return law


def resting(matrix: np.ndarray) -> np.ndarray:
    """The left eigenvector of the eigenvalue one."""
    values, vectors = np.linalg.eig(matrix.T)
    vector = np.real(vectors[:, np.argmin(abs(values - 1))])
    return vector / vector.sum()


def free(parameters: Numbers) -> np.ndarray:
    return parameters["transition"]


def given(*rows: tuple[float, ...]) -> Matrix:
    return lambda _: np.array(rows)


def tied(parameters: Numbers) -> np.ndarray:
    """Of the pattern ((0, 1), (1, 0)), whose rows are alike."""
    stay, leave = parameters["shares"][0]
    return np.array([[stay, leave], [leave, stay]])


def product(parameters: Numbers) -> np.ndarray:
    """Two factors of two states, the first of which turns fastest."""
    first, second = parameters["transition_0"], parameters["transition_1"]
    found = np.empty((4, 4))
    for i, j in itertools.product(range(4), repeat=2):
        found[i, j] = first[i % 2, j % 2] * second[i // 2, j // 2]
    return found


def logit(parameters: Numbers) -> np.ndarray:
    """(L, 2, 2): to stay has log odds 0, to leave those of the coefficients at the step that is entered."""
    leave = special.expit(parameters["rows"] @ parameters["transition_coefficients"][:, 0].T)  # (L, K)
    return np.stack([np.stack([1 - leave[:, 0], leave[:, 0]], -1), np.stack([leave[:, 1], 1 - leave[:, 1]], -1)], 1)


# ---- segments ------------------------------------------------------------------------------------------------------

LONGEST = 3
SUMMED = np.arange(1, 2001)
"""Lengths over which laws without a longest are summed; what lies beyond is below 0.98^2000 = 1e-18."""


def geometric(parameters: Numbers, state: int) -> np.ndarray:
    return stats.geom.pmf(SUMMED, 1 - parameters["stay"][state])


def shifted_poisson(parameters: Numbers, state: int) -> np.ndarray:
    rate = parameters["duration_rate"][state]
    whole = stats.poisson.pmf(SUMMED - 1, rate) / stats.poisson.cdf(LONGEST - 1, rate)
    return np.where(SUMMED <= LONGEST, whole, 0.0)


def shifted_negative_binomial(parameters: Numbers, state: int) -> np.ndarray:
    mean, size = parameters["duration_mean"][state], parameters["duration_size"][state]
    chance = size / (size + mean)
    whole = stats.nbinom.pmf(SUMMED - 1, size, chance) / stats.nbinom.cdf(LONGEST - 1, size, chance)
    return np.where(SUMMED <= LONGEST, whole, 0.0)


def free_durations(parameters: Numbers, state: int) -> np.ndarray:
    table = parameters["duration"][state]
    return np.concatenate([table, np.zeros(len(SUMMED) - len(table))])


def free_durations_with_a_tail(parameters: Numbers, state: int) -> np.ndarray:
    table, stay = parameters["duration"][state], parameters["stay"][state]
    beyond = SUMMED - len(table)
    tail = table[-1] * np.where(beyond >= 0, stay ** np.maximum(beyond, 0), 0.0) * (1 - stay)
    return tail + np.concatenate([table[:-1], np.zeros(len(SUMMED) - len(table) + 1)])


@cache
def segments(paths: bytes, shape: tuple[int, int]) -> list[list[tuple[int, int]]]:
    """(state, length) of the segments of each path."""
    rows = np.frombuffer(paths, dtype=np.int64).reshape(shape)
    return [[(state, len(list(run))) for state, run in itertools.groupby(row)] for row in rows.tolist()]


def semi_markov(
    duration: Callable[[Numbers, int], np.ndarray], in_progress: bool = False, stationary: bool = False
) -> PathLaw:
    """Segments one after the other; the last lasts at least as long as is seen, the first maybe began before."""

    def law(parameters: Numbers, paths: np.ndarray, memory: int, rows: np.ndarray) -> np.ndarray:
        states = paths.max() + 1
        moves = parameters.get("transition", 1 - np.eye(2))
        exact = np.stack([duration(parameters, state) for state in range(states)])
        reach = exact[:, ::-1].cumsum(1)[:, ::-1]  # p(d steps or more)
        mean = reach.sum(1)
        residual = reach / mean[:, None]
        initial = parameters["initial"]
        if stationary:
            initial = resting(moves) * mean / (resting(moves) @ mean)
        found = np.zeros(len(paths))
        for number, parts in enumerate(segments(paths.tobytes(), paths.shape)):
            total = initial[parts[0][0]]
            for place, (state, length) in enumerate(parts):
                if place:
                    total *= moves[parts[place - 1][0], state]
                lasts = residual if in_progress and place == 0 else exact
                ends = place < len(parts) - 1
                total *= lasts[state, length - 1] if ends else lasts[state, length - 1 :].sum()
            found[number] = total
        with np.errstate(divide="ignore"):
            return np.log(found)

    return law
