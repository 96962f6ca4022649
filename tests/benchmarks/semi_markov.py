"""One E-step of a Gaussian hidden semi-Markov chain, K = 4 and D = 100, in nanoseconds a step.

    python -m tests.benchmarks.semi_markov

Beside it stand the packages that can be installed and know such a chain (`gaussian-hsmm`: numpy), and what one does
without: an ordinary chain of K D states, one for each state and remaining duration, in probseq and in hmmlearn. A
package that is not installed is left out. Nobody but probseq is asked for more than 2,000 steps: that takes seconds.
"""

from __future__ import annotations

import importlib.util

import numpy as np

from tests.benchmarks.timing import Calls, Contender, ratio, take_turns

STATES, LONGEST = 4, 100
MEANS = np.array([10.0, 20.0, 30.0, 40.0])


def problem(steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations (T,), moves (K, K) and duration laws (K, D): 1 + Poisson, given at most D."""
    rng, d = np.random.default_rng(0), np.arange(LONGEST)
    logs = d * np.log(MEANS[:, None]) - np.cumsum(np.log(np.maximum(d, 1)))
    durations = np.exp(logs - np.logaddexp.reduce(logs, 1, keepdims=True))
    moves = rng.dirichlet(np.ones(STATES), STATES) * (1.0 - np.eye(STATES))
    moves /= moves.sum(1, keepdims=True)
    path, state = [], 0
    while len(path) < steps:
        path += [state] * int(rng.choice(LONGEST, p=durations[state]) + 1)
        state = int(rng.choice(STATES, p=moves[state]))
    return rng.normal(2.0 * np.array(path[:steps]), 1.0), moves, durations


def log_table(values: np.ndarray) -> np.ndarray:
    """(T, K) Gaussian log densities."""
    return -0.5 * (values[:, None] - 2.0 * np.arange(STATES)) ** 2 - 0.5 * np.log(2.0 * np.pi)


def expanded(moves: np.ndarray, durations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The law of the first state (K D,) and the matrix (K D, K D) of the chain of states and remaining durations."""
    size = STATES * LONGEST
    matrix = np.zeros((STATES, LONGEST, STATES, LONGEST))
    for k in range(STATES):
        matrix[k, np.arange(1, LONGEST), k, np.arange(LONGEST - 1)] = 1.0
        matrix[k, 0] = moves[k][:, None] * durations
    return (durations / STATES).reshape(size), matrix.reshape(size, size)


def probseq_calls(steps: int) -> Calls:
    import torch

    from probseq.kernels import semi_markov

    torch.set_num_threads(1)
    values, moves, durations = problem(steps)
    with np.errstate(divide="ignore"):
        initial, jumps = np.full((1, 1, STATES), -np.log(STATES)), np.log(moves)[None, None]
        law = np.log(durations)[None]
    none = np.full((1, STATES), -np.inf)
    laws = semi_markov.SemiMarkovLaws(initial, jumps, law, law, none, np.zeros((1, STATES)))
    arguments = laws, log_table(values)[None], np.array([0, steps])
    return {
        "e_step": lambda: semi_markov.expected_counts(*arguments),
        "evidence": lambda: semi_markov.evidence(*arguments),
        "viterbi": lambda: semi_markov.viterbi(*arguments),
    }


def probseq_expanded_calls(steps: int) -> Calls:
    import torch

    from probseq import kernels

    torch.set_num_threads(1)
    values, moves, durations = problem(steps)
    law, matrix = expanded(moves, durations)
    table = np.repeat(log_table(values), LONGEST, axis=1)[None]
    with np.errstate(divide="ignore"):
        arguments = np.log(law)[None, None], np.log(matrix)[None, None], table, np.array([0, steps])
    return {"e_step": lambda: kernels.expected_counts(*arguments)}


def hmmlearn_expanded_calls(steps: int) -> Calls:
    from hmmlearn import _hmmc

    values, moves, durations = problem(steps)
    law, matrix = expanded(moves, durations)
    table = np.repeat(log_table(values), LONGEST, axis=1)

    def e_step() -> None:
        density = np.exp(table - table.max(1, keepdims=True))
        _, forward, scaling = _hmmc.forward_scaling(law, matrix, density)
        backward = _hmmc.backward_scaling(law, matrix, density, scaling)
        _hmmc.compute_scaling_xi_sum(forward, matrix, backward, density)

    return {"e_step": e_step}


def gaussian_hsmm_calls(steps: int) -> Calls:
    from gaussian_hsmm import GaussianHSMM

    values, moves, _ = problem(steps)
    model = GaussianHSMM(STATES, max_duration=LONGEST)
    model.n_features_ = 1
    model.startprob_, model.transmat_ = np.full(STATES, 1.0 / STATES), moves
    model.means_, model.covars_ = 2.0 * np.arange(STATES)[:, None], np.ones((STATES, 1))
    model.duration_means_ = 1.0 + MEANS
    model._update_duration_probabilities()
    return {"e_step": lambda: model._expectation_step(values[:, None], np.array([steps]))}


def main() -> None:
    long = Contender("probseq", probseq_calls, 100_000)
    for work in ("e_step", "evidence", "viterbi"):
        timing = take_turns([long], work, budget=5.0)["probseq"]
        each = 1e9 * timing.median / 100_000
        print(f"probseq {work}, T = 100,000: {each:.0f} ns/step, {each / LONGEST:.2f} ns x D")
    long.close()
    peers = {"gaussian_hsmm": gaussian_hsmm_calls, "hmmlearn": hmmlearn_expanded_calls}
    steps = 2_000
    contenders = [Contender("probseq", probseq_calls, steps)]
    contenders += [Contender(name, make, steps) for name, make in peers.items() if importlib.util.find_spec(name)]
    contenders.append(Contender("probseq, chain of K D states", probseq_expanded_calls, steps))
    found = take_turns(contenders, "e_step", budget=20.0)
    for name, timing in found.items():
        times = ratio(timing, found["probseq"])
        print(f"{name}, T = {steps:,}: {1e9 * timing.median / steps:,.0f} ns/step, {times:,.1f} times probseq's")
    for contender in contenders:
        contender.close()


if __name__ == "__main__":
    main()
