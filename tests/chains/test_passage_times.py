"""Stationary laws, occupancy and hitting times of order-k chains against eigenvectors, powers and sums over paths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from probseq import ModelError
from probseq.chains import passage_times

SHAPES = [(0, 3), (1, 2), (1, 4), (2, 2), (2, 3), (3, 2)]  # order, symbols


def rows_of(order: int, symbols: int, zeros: bool = True) -> torch.Tensor:
    rng = np.random.default_rng(10 * order + symbols)
    rows = rng.gamma(0.7, size=(symbols**order, symbols)) + 0.05
    if zeros and order > 0:
        rows[rng.integers(len(rows)), 0] = 0.0
    return torch.from_numpy(rows / rows.sum(1, keepdims=True))


def paths_after(context: int, rows: torch.Tensor, steps: int):
    """Every continuation of a context, with its probability."""
    contexts, symbols = rows.shape
    for path in itertools.product(range(symbols), repeat=steps):
        chance, now = 1.0, context
        for symbol in path:
            chance *= float(rows[now, symbol])
            now = (now * symbols + symbol) % contexts
        yield path, chance


def full_matrix(rows: torch.Tensor) -> np.ndarray:
    contexts, symbols = rows.shape
    matrix = np.zeros((contexts, contexts))
    for context, symbol in itertools.product(range(contexts), range(symbols)):
        matrix[context, (context * symbols + symbol) % contexts] += float(rows[context, symbol])
    return matrix


@pytest.mark.parametrize("order, symbols", SHAPES)
@pytest.mark.parametrize("dense", [True, False], ids=["solved", "iterated"])
def test_stationary_law(order, symbols, dense, monkeypatch):
    if not dense:
        monkeypatch.setattr(passage_times, "DENSE_CONTEXTS", 0)
    rows = rows_of(order, symbols)
    law = passage_times.stationary_contexts(rows)
    values, vectors = np.linalg.eig(full_matrix(rows).T)
    wanted = np.real(vectors[:, np.argmax(np.real(values))])
    np.testing.assert_allclose(law, wanted / wanted.sum(), atol=1e-11)  # the iteration stops at 1e-13 a move
    shares = passage_times.stationary_symbols(rows)
    np.testing.assert_allclose(shares, law.numpy() @ rows.numpy(), atol=1e-11)


def test_a_period_does_not_keep_the_iteration_from_settling(monkeypatch):
    monkeypatch.setattr(passage_times, "DENSE_CONTEXTS", 0)
    rows = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    np.testing.assert_allclose(passage_times.stationary_contexts(rows), [0.5, 0.5], atol=1e-12)


@pytest.mark.parametrize("order, symbols", SHAPES)
def test_occupancy_and_first_arrivals_are_sums_over_all_paths(order, symbols):
    rows, steps, target = rows_of(order, symbols), 5, [symbols - 1]
    start = torch.zeros(len(rows), dtype=torch.float64)
    start[-1] = 1.0
    spent, arrival = np.zeros(symbols), np.zeros(steps)
    for path, chance in paths_after(len(rows) - 1, rows, steps):
        for symbol in path:
            spent[symbol] += chance
        if target[0] in path:
            arrival[path.index(target[0])] += chance
    np.testing.assert_allclose(passage_times.occupancy(rows, start, steps), spent, atol=1e-13)
    np.testing.assert_allclose(passage_times.hitting_law(rows, target, start, steps), arrival, atol=1e-13)


@pytest.mark.parametrize("order, symbols", SHAPES)
@pytest.mark.parametrize("dense", [True, False], ids=["solved", "iterated"])
def test_mean_hitting_time_is_the_mean_of_its_law(order, symbols, dense, monkeypatch):
    if not dense:
        monkeypatch.setattr(passage_times, "DENSE_CONTEXTS", 0)
    rows, target = rows_of(order, symbols, zeros=False), [0, symbols - 1][: symbols - 1]
    means = passage_times.hitting_times(rows, target)
    for context in range(len(rows)):
        start = torch.zeros(len(rows), dtype=torch.float64)
        start[context] = 1.0
        law = passage_times.hitting_law(rows, target, start, 3000)
        assert float(law.sum()) == pytest.approx(1.0, abs=1e-12)  # nothing is left after 3000 steps
        assert float(means[context]) == pytest.approx(float(law @ torch.arange(1, 3001).double()), rel=1e-9)


def test_what_may_never_come_takes_for_ever():
    rows = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.4, 0.4], [0.0, 0.0, 1.0]], dtype=torch.float64)
    assert passage_times.hitting_times(rows, [0]).tolist() == [float("inf")] * 3  # the third symbol absorbs
    times = passage_times.hitting_times(rows, [2])
    np.testing.assert_allclose(times, [5.5, 3.5, 1.0])  # m0 = 1 + (m0 + m1) / 2, m1 = 1 + .2 m0 + .4 m1
    assert bool(torch.isinf(passage_times.hitting_times(torch.eye(2, dtype=torch.float64), [0])[1]))


def test_refusals():
    rows = rows_of(1, 2)
    with pytest.raises(ModelError, match="a target must name symbols among 0..1"):
        passage_times.hitting_times(rows, [2])
    with pytest.raises(ModelError, match="steps must be at least 1"):
        passage_times.occupancy(rows, torch.tensor([1.0, 0.0]).double(), 0)
    with pytest.raises(ModelError, match="one closed class"):
        passage_times.stationary_contexts(torch.eye(2, dtype=torch.float64))
