"""The memory tasks by their definitions, and their losses without memory by averages."""

import numpy as np
import pytest
import torch

from probseq.recurrent.memory_tasks import ADDING_WITHOUT_MEMORY, adding_task, copy_task, copying_without_memory


def test_adding_asks_for_the_sum_of_two_early_numbers() -> None:
    series = adding_task(4000, 30, window=8, seed=0)
    number, marker = (column.reshape(4000, 38).numpy() for column in series.covariates.T)
    assert (marker.sum(1) == 2).all() and (marker[:, 8:] == 0).all()
    assert (marker[:, :8].mean(0) > 0.22).all()  # a quarter each; the standard error is 0.007
    answers = series.values.reshape(4000, 38)[:, -1].numpy()
    np.testing.assert_allclose(answers, (number * marker).sum(1), rtol=1e-15)
    asked = series.step_observed.reshape(4000, 38)
    assert bool(asked[:, -1].all()) and not bool(asked[:, :-1].any())
    # the squared error of the answer 1 has variance 7/180, so a standard error of 0.0031
    assert np.mean((answers - 1) ** 2) == pytest.approx(ADDING_WITHOUT_MEMORY, abs=4 * 0.0031)


def test_copying_asks_for_the_symbols_in_order_after_the_cue() -> None:
    series = copy_task(500, 30, seed=0)
    shown, answer = series.covariates.reshape(500, 50), series.values.reshape(500, 50)
    assert torch.equal(shown[:, :10], answer[:, -10:].double())
    assert (shown[:, 10:39] == 8).all() and (shown[:, 39] == 9).all() and (shown[:, 40:] == 8).all()
    assert (answer[:, :40] == 8).all() and len(series.categories) == 9
    shares = torch.bincount(answer[:, -10:].flatten().long(), minlength=8) / 5000
    assert ((shares - 1 / 8).abs() < 4 * (7 / 64 / 5000) ** 0.5).all()
    guess = torch.where(torch.arange(50) < 40, 1.0, 1 / 8)
    assert float(-guess.double().log().mean()) == pytest.approx(copying_without_memory(30))


def test_tasks_repeat_by_seed() -> None:
    for task in (adding_task, copy_task):
        assert task(3, 5, seed=1).fingerprint() == task(3, 5, seed=1).fingerprint() != task(3, 5, seed=2).fingerprint()
