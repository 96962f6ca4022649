"""Random semi-Markov problems, and the sum over all segmentations by its definition and nothing cleverer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probseq.kernels.semi_markov import SemiMarkovLaws

TABLES = ("log_initial", "log_transition", "log_duration", "log_first", "log_stay", "log_leave")
COUNTS = ("initial", "transition", "duration", "first", "stay", "leave")


@dataclass(frozen=True)
class Problem:
    """The arguments of every recursion; see probseq.kernels.semi_markov."""

    laws: SemiMarkovLaws
    log_table: np.ndarray
    offsets: np.ndarray
    emission_index: np.ndarray | None
    transition_index: np.ndarray | None

    @property
    def arguments(self) -> tuple:
        return self.laws, self.log_table, self.offsets, self.emission_index, self.transition_index

    @property
    def rows(self) -> np.ndarray:
        return np.arange(self.offsets[-1]) if self.emission_index is None else self.emission_index.astype(int)

    @property
    def moves(self) -> np.ndarray:
        return np.zeros(self.offsets[-1], int) if self.transition_index is None else self.transition_index


def random_problem(
    seed: int,
    states: int,
    longest: int,
    lengths: list[int],
    draws: int = 1,
    rows: int | None = None,
    matrices: int | None = None,
    own_initial: bool = False,
    zeros: float = 0.0,
    spread: float = 2.0,
    tail: bool = True,
) -> Problem:
    """Dirichlet laws, a share `zeros` of whose entries is impossible, no move to itself, normal log-likelihoods."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    steps = int(offsets[-1])

    def law(*shape: int) -> np.ndarray:
        table = rng.dirichlet(np.ones(shape[-1]), shape[:-1])
        table[rng.random(table.shape) < zeros] = 0.0
        return table

    jumps = law(draws, matrices or 1, states, states) * (1.0 - np.eye(states))
    whole = jumps.sum(-1, keepdims=True)
    stay = rng.uniform(0.1, 0.9, (draws, states)) * tail
    initial, durations = law(draws, len(lengths) if own_initial else 1, states), law(2, draws, states, longest)
    table = rng.normal(size=(draws, steps if rows is None else rows, states)) * spread
    table[rng.random(table.shape) < zeros / 2] = -np.inf
    with np.errstate(divide="ignore"):
        probabilities = (initial, jumps / np.where(whole > 0, whole, 1.0), *durations, stay, 1.0 - stay)
        laws = SemiMarkovLaws(*(np.log(x) for x in probabilities))
    index = None if rows is None else rng.integers(0, rows, steps).astype(np.uint8)
    return Problem(laws, table, offsets, index, None if matrices is None else rng.integers(0, matrices, steps))


def duration_chance(law: np.ndarray, stay: float, steps: int, cut: bool) -> float:
    """Probability of a segment of so many steps, or of at least so many if the data cut it off."""
    longest, beyond = len(law), steps - len(law)
    if cut:
        return law[-1] * stay**beyond if beyond >= 0 else law[steps - 1 :].sum()
    return law[-1] * stay**beyond * (1.0 - stay) if beyond >= 0 else law[:longest][steps - 1]


def all_paths(problem: Problem, draw: int, sequence: int) -> dict[tuple[int, ...], float]:
    """p(x, path) of every path of positive probability, adding up its segments one after the other."""
    laws, (start, end) = problem.laws, problem.offsets[sequence : sequence + 2]
    initial, jumps, duration, first, stay = (np.exp(np.asarray(getattr(laws, name))[draw]) for name in TABLES[:5])
    likelihood = np.exp(problem.log_table[draw, problem.rows[start:end]])
    moves, found = problem.moves[start:end], {}

    def extend(path: tuple[int, ...], chance: float, state: int) -> None:
        begin = len(path)
        law = duration[state] if begin else first[state]
        for steps in range(1, end - start - begin + 1):
            until = begin + steps
            cut = until == end - start
            here = chance * duration_chance(law, stay[state], steps, cut) * likelihood[begin:until, state].prod()
            if here > 0.0 and cut:
                found[path + (state,) * steps] = here
            elif here > 0.0:
                for after in np.flatnonzero(jumps[moves[until - 1], state]):
                    extend(path + (state,) * steps, here * jumps[moves[until - 1], state, after], int(after))

    for state, chance in enumerate(initial[sequence if len(initial) > 1 else 0]):
        extend((), chance, state)
    return found
