"""What a network says of what it sees: images with their captions, and paths with how surely they are known."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse

from probseq.plots.style import INK, MODEL, dress

AMISS = "#D55E00"
"""What is said wrongly, or is out of sight."""


def told_image(axes: Axes, image: np.ndarray, said: str, truth: str | None = None, *, most: float = 1.0) -> Axes:
    """An image with what is said of it above; in another colour, with the truth below, where that is another.

    Args:
        axes: to draw on.
        image: (H, W) grey, 0 is white and `most` black; or (H, W, 3) colours from 0 to 1.
        said: the caption.
        truth: the right one; None where it is not known.
        most: the value that is black.
    """
    wrong = truth is not None and said != truth
    axes.imshow(np.asarray(image), cmap="gray_r", vmin=0.0, vmax=most)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(said, fontsize=8, color=AMISS if wrong else INK)
    if wrong:
        axes.set_xlabel(f"is {truth}", fontsize=8, color=AMISS)
    return axes


def tracked_path(
    axes: Axes,
    true: np.ndarray,
    loc: np.ndarray,
    scale_tril: np.ndarray,
    *,
    hidden: np.ndarray | None = None,
    content: float = 0.9,
    size: Sequence[float] | None = None,
) -> Axes:
    """A path in the plane, and a Gaussian law of each of its points as an ellipse around the mean.

    Args:
        axes: to draw on.
        true: (T, 2) x to the right and y down, as pixels are counted.
        loc: (T, 2) the means.
        scale_tril: (T, 2, 2) Cholesky factors of the covariances.
        hidden: (T,) bool, True where the object is out of sight; its means are hollow. None is nowhere.
        content: the probability inside each ellipse.
        size: width and height of the picture; None takes in all points.
    """
    true, loc, factors = np.asarray(true), np.asarray(loc), np.asarray(scale_tril)
    lost = np.zeros(len(true), dtype=bool) if hidden is None else np.asarray(hidden, dtype=bool)
    radius = math.sqrt(-2 * math.log1p(-content))  # of the circle that holds so much of a standard Gaussian
    for mean, factor, unseen in zip(loc, factors, lost, strict=True):
        directions, lengths, _ = np.linalg.svd(factor)
        angle = math.degrees(math.atan2(directions[1, 0], directions[0, 0]))
        width, height = 2 * radius * lengths
        ellipse = Ellipse((float(mean[0]), float(mean[1])), float(width), float(height), angle=angle)
        ellipse.set(facecolor="none", edgecolor=AMISS if unseen else MODEL, linewidth=0.8, alpha=0.6)
        axes.add_patch(ellipse)
    axes.plot(true[:, 0], true[:, 1], color=INK, linewidth=1.2, label="true path")
    for name, chosen, colour, face in (("in sight", ~lost, MODEL, MODEL), ("out of sight", lost, AMISS, "white")):
        if chosen.any():
            axes.scatter(loc[chosen, 0], loc[chosen, 1], s=14, facecolor=face, edgecolor=colour, zorder=3, label=name)
    axes.set_aspect("equal")
    dress(axes, x="x, pixels", y="y, pixels")
    if size is None:
        axes.autoscale_view()
        axes.invert_yaxis()
    else:
        axes.set_xlim(-0.5, size[0] - 0.5)
        axes.set_ylim(size[1] - 0.5, -0.5)
    return axes
