"""The curves of a training show the losses that they are given, and which epoch was kept."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from probseq import NetworkFit, plots
from tests.inference.letter_network import LetterNetwork

CURVES = pd.DataFrame(
    {
        "epoch": [1, 2, 3, 4],
        "train": [1.2, 0.9, 0.8, 0.7],
        "validation": [1.1, 0.95, 1.0, 1.05],
        "learning_rate": [0.1, 0.1, 0.1, 0.05],
    }
)


def fit_of(curves: pd.DataFrame, best_epoch: int) -> NetworkFit:
    return NetworkFit(LetterNetwork(), curves, best_epoch, True, "", 1.0, 0, {}, "")


def test_losses_the_kept_epoch_and_the_halved_rate_are_shown(tmp_path) -> None:
    made, axes = plots.figure()
    assert plots.training_curves(axes, fit_of(CURVES, 2), bits=True) is axes
    lines = {str(line.get_label()): line for line in axes.lines}
    np.testing.assert_allclose(np.asarray(lines["train"].get_ydata()), CURVES["train"] / np.log(2.0))
    np.testing.assert_allclose(np.asarray(lines["validation"].get_ydata()), CURVES["validation"] / np.log(2.0))
    assert lines["kept: 1.371"].get_xdata()[0] == 2  # type: ignore[index]  # 0.95 / log 2
    assert np.asarray(lines["rate halved"].get_xdata()).tolist() == [3.5]
    assert "bits" in axes.get_ylabel()
    made.savefig(tmp_path / "curves.png")  # warnings are errors


def test_a_rate_that_was_annealed_was_not_halved() -> None:
    _, axes = plots.figure()
    plots.training_curves(axes, replace(fit_of(CURVES, 2), options={"anneal": True}))
    assert "rate halved" not in [line.get_label() for line in axes.lines]


@pytest.mark.parametrize("rows", [0, 1])
def test_a_short_training_has_a_figure_too(rows: int, tmp_path) -> None:
    made, axes = plots.figure()
    plots.training_curves(axes, fit_of(CURVES.drop(columns="validation").iloc[:rows], rows))
    assert [line.get_label() for line in axes.lines][:1] == ["train"]
    made.savefig(tmp_path / "curves.png")
