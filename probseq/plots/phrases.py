"""Phrases as an encoder sees them: their states on a plane, after figure 2 of Sutskever, Vinyals & Le (2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from probseq.plots.style import INK, MUTED, dress, legend, state_colours

MARKS = "osD^v*"
LINE, LETTER, NEAR = 11.0, 4.4, 10.0
"""Points: the height of a line of text and the mean width of a letter, at size 8; and how far from its point it is."""


def phrase_plane(
    axes: Axes,
    scores: pd.DataFrame,
    shares: Sequence[float] | np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    marks: Sequence[str] | None = None,
) -> Axes:
    """Each phrase as a point with its text.

    Args:
        axes: to draw on, of a figure in its final size.
        scores: (N, 2) places under the texts of the phrases, as `principal_components` gives them.
        shares: (2,) of the variance, for the labels of the axes.
        groups: (N,) names, a colour each.
        marks: (N,) names, a mark each, up to six; named in a legend.
    """
    groups = [""] * len(scores) if groups is None else list(groups)
    marks = [""] * len(scores) if marks is None else list(marks)
    colours = dict(zip(dict.fromkeys(groups), state_colours(len(set(groups))), strict=True))
    signs = dict(zip(dict.fromkeys(marks), MARKS, strict=False))
    places = scores.to_numpy(dtype=np.float64)[:, :2]
    for (x, y), group, mark in zip(places, groups, marks, strict=True):
        axes.plot(x, y, signs[mark], color=colours[group], markersize=6, linestyle="none")
    if len(signs) > 1:
        for name, sign in signs.items():
            axes.plot([], [], sign, color=MUTED, linestyle="none", label=name)
        legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(signs), borderpad=0)
    axes.margins(0.2, 0.15)
    dress(
        axes,
        x=f"first component, {100 * shares[0]:.0f}% of variance",
        y=f"second component, {100 * shares[1]:.0f}% of variance",
    )
    _write_apart(axes, places, [str(text) for text in scores.index])
    return axes


def _write_apart(axes: Axes, places: np.ndarray, texts: list[str]) -> None:
    """The texts above or below their points, as near as no text lies on another or on a point."""
    whole: Any = axes.get_figure(root=True)
    whole.draw_without_rendering()  # lays out the axes, so that places in points are known
    dots = axes.transData.transform(places) * 72 / whole.dpi
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    for i in np.argsort(dots[:, 1]):
        (x, y), half = dots[i], LETTER * len(texts[i]) / 2
        rises = [sign * (NEAR + LINE * k) for k in range(8) for sign in (1, -1)]
        boxes = {rise: (x - half, y + rise - LINE / 2, x + half, y + rise + LINE / 2) for rise in rises}
        free = [rise for rise in rises if not any(_meet(boxes[rise], one) for one in taken)]
        rise = free[0] if free else NEAR  # too many to be told apart
        taken.append(boxes[rise])
        text = axes.annotate(
            texts[i],
            tuple(places[i]),
            xytext=(0, rise),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6} if abs(rise) > NEAR else None,
        )
        text.set_in_layout(False)


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Whether two boxes (left, bottom, right, top) overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
