"""No underflow and no silently wrong number, where likelihood ratios pass 1e-400 and return."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probseq import kernels
from probseq.kernels.reference import evidence_reference

LEFT_RIGHT = [[0.9, 0.1, 0.0], [0.0, 0.9, 0.1], [0.0, 0.0, 1.0]]
SEPARATE = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
NEARLY = [[1.0, 1e-200, 1e-250], [1e-300, 1.0, 1e-120], [1e-200, 1e-290, 1.0]]
FULL = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]


def logs(probabilities: object) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(probabilities, float))


def against_reference(law: list[float], rows: list, table: np.ndarray) -> None:
    """Evidence, counts, filter and Viterbi of one sequence equal the log-space recursion of torch."""
    arguments = logs(law)[None, None], logs(rows)[None, None], table[None]
    steps = len(table)
    tables = [torch.tensor(x, requires_grad=True) for x in arguments]
    expected = evidence_reference(*tables, torch.tensor([steps]))
    slopes = torch.autograd.grad(expected.sum(), tables)
    counts = kernels.expected_counts(*arguments, [0, steps])
    # The reference adds logarithms of size |evidence|, and so is good to a few roundings of that.
    rounding = 1e-15 * steps * (abs(expected.item()) if torch.isfinite(expected).all() else 1.0)
    for value in (counts.evidence, kernels.evidence(*arguments, [0, steps])):
        np.testing.assert_allclose(value, expected.detach(), rtol=1e-12, atol=rounding)
    for value, slope in zip((counts.initial, counts.transition, counts.emission), slopes, strict=True):
        np.testing.assert_allclose(value, slope, rtol=1e-9, atol=10 * rounding)
    np.testing.assert_allclose(kernels.smoothed(*arguments, [0, steps]), counts.emission, rtol=1e-12, atol=1e-300)
    filtered, predictive = kernels.filtered(*arguments, [0, steps])
    np.testing.assert_allclose(predictive.sum(), expected.detach(), rtol=1e-12, atol=rounding)
    prefix = [evidence_reference(*tables[:2], tables[2][:, :t], torch.tensor([t])).item() for t in range(1, steps + 1)]
    np.testing.assert_allclose(predictive[0].cumsum(), prefix, rtol=1e-12, atol=rounding)
    np.testing.assert_allclose(filtered[0, -1], counts.emission[0, -1], rtol=1e-9, atol=10 * rounding)


@pytest.mark.parametrize("rows", [LEFT_RIGHT, SEPARATE, NEARLY, FULL])
@pytest.mark.parametrize("swing", [1.0, 30.0, 200.0, 400.0, 1000.0, 5000.0])
def test_a_state_lost_by_far_may_come_back(rows, swing):
    """The first third of the data is against state 1, the middle for it by twice as much, the last against it."""
    table = np.zeros((30, 3))
    table[:10, 1], table[10:20, 1], table[20:, 1] = -swing, 2.5 * swing, -swing
    table[5:8, 2] = -3 * swing
    against_reference([0.5, 0.3, 0.2], rows, table)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rows", [LEFT_RIGHT, SEPARATE, NEARLY, FULL])
def test_random_swings(rows, seed):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(40, 3)) * rng.choice([1.0, 50.0, 300.0, 2000.0], size=(40, 1))
    table[rng.random(table.shape) < 0.05] = -np.inf
    table[:, 0] = np.where(np.isinf(table).all(1), 0.0, table[:, 0])
    against_reference([1.0, 0.0, 0.0] if seed % 2 else [1e-300, 0.5, 0.5], rows, table)


def test_the_initial_state_may_be_reached_by_a_tiny_probability_only():
    table = np.zeros((50, 3))
    table[:, 1:] = -np.inf
    against_reference([1e-300, 0.5, 0.5], SEPARATE, table)
    table[0] = [-800.0, 0.0, 0.0]
    against_reference([1e-300, 0.5, 0.5], FULL, table)
    table = np.zeros((50, 3))
    table[:, 1:] = -2000.0
    against_reference([1e-300, 0.5, 0.5], LEFT_RIGHT, table)


def test_log_tables_of_any_size():
    for shift in (-1e6, -800.0, 800.0, 1e6):
        against_reference([0.5, 0.3, 0.2], FULL, np.random.default_rng(0).normal(size=(20, 3)) + shift)


def test_every_step_may_be_impossible_in_a_row():
    table = np.zeros((1, 6, 2))
    table[0, 3] = -np.inf
    arguments = logs([[[0.5, 0.5]]]), logs([[[[0.5, 0.5], [0.5, 0.5]]]]), table, [0, 2, 6]
    counts = kernels.expected_counts(*arguments)
    np.testing.assert_array_equal(np.isinf(counts.evidence), [[False, True]])
    np.testing.assert_allclose(counts.emission[0], [[0.5, 0.5]] * 2 + [[0.0, 0.0]] * 4, rtol=1e-14)
    np.testing.assert_allclose(counts.transition.sum(), 1.0)
    filtered, predictive = kernels.filtered(*arguments)
    np.testing.assert_array_equal(np.isinf(predictive[0]), [False, False, False, True, True, True])
    np.testing.assert_allclose(filtered[0].sum(-1), [1, 1, 1, 0, 0, 0])
    assert (kernels.smoothed(*arguments)[0, 2:] == 0).all()
    paths, log_prob = kernels.viterbi(*arguments)
    assert paths[0].tolist() == [0, 0, -1, -1, -1, -1] and np.isinf(log_prob[0, 1])
    assert kernels.sample_paths(*arguments, uniforms=np.zeros((1, 1, 6))).tolist() == [[[0, 0, -1, -1, -1, -1]]]


@pytest.mark.parametrize("rows", [LEFT_RIGHT, FULL])
def test_a_million_steps_do_not_underflow(rows):
    steps = 1_000_000
    rng = np.random.default_rng(0)
    symbols = rng.integers(0, 4, steps).astype(np.uint8)
    symbols[: steps // 3], symbols[steps // 3 : steps // 2] = symbols[: steps // 3] % 2, 3
    table = logs([[0.4, 0.2, 0.25], [0.4, 0.1, 0.25], [0.1, 0.1, 0.25], [0.1, 0.6, 0.25]])[None]
    arguments = logs([[[1.0, 0.0, 0.0]]]), logs(rows)[None, None], table, [0, steps], symbols
    counts = kernels.expected_counts(*arguments)
    value = 0.0
    message = np.array([1.0, 0.0, 0.0])
    matrix, likelihood = np.array(rows), np.exp(table[0])
    for block in np.split(symbols[:20_000], 200):  # the same recursion with numpy, scaled at each step
        for symbol in block:
            message = message * likelihood[symbol]
            value += np.log(message.sum())
            message = message / message.sum() @ matrix
    short = kernels.evidence(*arguments[:3], [0, 20_000], symbols[:20_000])
    np.testing.assert_allclose(short, value, rtol=1e-12)
    assert np.isfinite(counts.evidence).all()
    np.testing.assert_allclose(counts.emission.sum(), steps, rtol=1e-12)
    np.testing.assert_allclose(counts.transition.sum(), steps - 1, rtol=1e-12)
    np.testing.assert_allclose(counts.emission[0].sum(1), np.bincount(symbols), rtol=1e-10)
    np.testing.assert_allclose(kernels.evidence(*arguments), counts.evidence, rtol=1e-14)
