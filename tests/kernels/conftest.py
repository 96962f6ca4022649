"""Random problems for the recursions: tables, ragged sequences and indices, with zeros where a test asks for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch


@dataclass(frozen=True)
class Problem:
    """The arguments of every recursion; see probseq.kernels.recursions."""

    log_initial: np.ndarray
    log_transition: np.ndarray
    log_table: np.ndarray
    offsets: np.ndarray
    emission_index: np.ndarray | None
    transition_index: np.ndarray | None

    @property
    def arguments(self) -> tuple:
        return (
            self.log_initial,
            self.log_transition,
            self.log_table,
            self.offsets,
            self.emission_index,
            self.transition_index,
        )

    @property
    def emission_rows(self) -> np.ndarray:
        steps = self.offsets[-1]
        return np.arange(steps) if self.emission_index is None else self.emission_index.astype(int)

    @property
    def moves(self) -> np.ndarray:
        steps = self.offsets[-1]
        return np.zeros(steps, int) if self.transition_index is None else self.transition_index.astype(int)


def random_problem(
    seed: int,
    states: int,
    lengths: list[int],
    draws: int = 1,
    rows: int | None = None,
    matrices: int | None = None,
    own_initial: bool = False,
    zeros: float = 0.0,
    spread: float = 2.0,
    index_dtype: type = np.int64,
) -> Problem:
    """A problem with Dirichlet laws, a share `zeros` of whose entries is impossible, and normal log-likelihoods.

    rows and matrices None mean a dense table and one matrix; spread is the standard deviation of the log-likelihoods.
    """
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    steps = int(offsets[-1])

    def log_law(*shape: int) -> np.ndarray:
        law = rng.dirichlet(np.ones(states), shape)
        law[rng.random(law.shape) < zeros] = 0.0
        with np.errstate(divide="ignore"):
            return np.log(law)

    table = rng.normal(size=(draws, steps if rows is None else rows, states)) * spread
    table[rng.random(table.shape) < zeros / 2] = -np.inf
    return Problem(
        log_initial=log_law(draws, len(lengths) if own_initial else 1),
        log_transition=log_law(draws, matrices or 1, states),
        log_table=table,
        offsets=offsets,
        emission_index=None if rows is None else rng.integers(0, rows, steps).astype(index_dtype),
        transition_index=None if matrices is None else rng.integers(0, matrices, steps).astype(index_dtype),
    )


@pytest.fixture
def make_problem():
    return random_problem


@pytest.fixture(autouse=True)
def one_thread():
    """Torch's threads wait by spinning, which takes minutes on a busy machine; tests of threads ask for their own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
