"""Figures of captions and paths show what they were given."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from probseq import plots

RNG = np.random.default_rng(0)
PATH = np.cumsum(RNG.normal(size=(9, 2)), axis=0) + 10.0
FACTORS = np.tril(RNG.normal(size=(9, 2, 2)) * 0.2) + np.eye(2)
HIDDEN = np.arange(9) % 3 == 1


def test_a_wrong_caption_is_set_apart_from_a_right_one() -> None:
    right, wrong, unknown = Figure().subplots(1, 3)
    image = RNG.random((4, 5))
    assert plots.told_image(right, image, "a dot", "a dot") is right
    plots.told_image(wrong, image, "a dot", "a line")
    plots.told_image(unknown, image, "a dot")
    np.testing.assert_array_equal(np.asarray(right.images[0].get_array()), image)
    assert right.title.get_color() == unknown.title.get_color() != wrong.title.get_color()
    assert [axes.get_xlabel() for axes in (right, wrong, unknown)] == ["", "is a line", ""]


@pytest.mark.parametrize("size", [None, (20, 24)])
def test_ellipses_hold_what_they_say(size: tuple[int, int] | None) -> None:
    """Points on each outline lie at one Mahalanobis distance, with 70% of the Gaussian inside: a chi-square's."""
    axes = Figure().subplots()
    found = plots.tracked_path(axes, PATH, PATH + 0.1, FACTORS, hidden=HIDDEN, content=0.7, size=size)
    assert found is axes
    ellipses = [patch for patch in axes.patches if isinstance(patch, Ellipse)]
    for mean, factor, ellipse in zip(PATH + 0.1, FACTORS, ellipses, strict=True):
        outline = ellipse.get_patch_transform().transform(np.stack([np.cos(T), np.sin(T)], axis=1))
        z = np.linalg.solve(factor, (outline - mean).T)
        np.testing.assert_allclose(1 - np.exp(-(z**2).sum(0) / 2), 0.7, atol=1e-12)
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), PATH)
    shown = [np.asarray(points.get_offsets()) for points in axes.collections]
    np.testing.assert_array_equal(shown[0], (PATH + 0.1)[~HIDDEN])
    np.testing.assert_array_equal(shown[1], (PATH + 0.1)[HIDDEN])
    low, high = axes.get_ylim()
    assert low > high, "y counts down, as rows do"


T = np.linspace(0, 2 * np.pi, 13)
