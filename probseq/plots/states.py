"""A series and its hidden states over time."""

from collections.abc import Sequence
from typing import Any

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from probseq.plots.style import INK, MISSING, MUTED, dress, names_of, state_colours

STRIP = 0.06
"""Height of the band of states under a series, as a share of the Axes."""


def decoded_series(
    axes: Axes,
    time: pd.Index | np.ndarray,
    values: np.ndarray,
    state: np.ndarray,
    *,
    states: int,
    bars: bool = False,
    joined: bool = True,
    label: str = "",
    labels: Sequence[str] | None = None,
    legend: bool = True,
) -> Axes:
    """One series, each step in the colour of its decoded state, with a band of the states beneath.

    Args:
        axes: to draw on.
        time: (T,) dates, periods or numbers, increasing.
        values: (T,) data, NaN where missing; grey marks on the band show these steps.
        state: (T,) decoded state, 0 to K - 1.
        states: K.
        bars: draw a bar from zero at each step (amounts and counts) rather than a line with points.
        joined: draw a thin line through the points.
        label: of the y axis, with its unit.
        labels: what the states are called.
        legend: name the states beside the Axes.
    """
    x, edges = positions(axes, time)
    colours = np.array(state_colours(states))
    known = ~np.isnan(values)
    if bars:
        drawn = known & (values != 0)
        wide = _bar_width(axes, len(x))
        axes.vlines(x[drawn], 0, values[drawn], colors=colours[state[drawn]].tolist(), linewidth=wide)
        axes.axhline(0, color=MUTED, linewidth=0.8)
    else:
        if joined:
            axes.plot(x, values, color=MISSING, linewidth=0.8, zorder=1)
        size = float(np.clip(9000 / max(len(x), 1), 3, 26))
        axes.scatter(x[known], values[known], c=colours[state[known]].tolist(), s=size, linewidths=0, zorder=2)
    _band(axes, edges, state, states)
    if not known.all():
        centre = np.full(int((~known).sum()), -STRIP / 2)
        axes.plot(
            x[~known], centre, "|", color="white", markersize=5, transform=axes.get_xaxis_transform(), clip_on=False
        )
    axes.set_xlim(edges[0], edges[-1])
    axes.margins(y=0.05)
    dress(axes, y=label)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", pad=2 + STRIP * _points(axes)[1])
    if legend:
        _state_legend(axes, states, labels)
    return axes


def state_probabilities(
    axes: Axes,
    time: pd.Index | np.ndarray,
    probabilities: np.ndarray,
    *,
    labels: Sequence[str] | None = None,
    legend: bool = True,
) -> Axes:
    """p(z_t = k | x) as stacked areas that fill the Axes.

    Args:
        axes: to draw on.
        time: (T,) dates, periods or numbers.
        probabilities: (T, K), rows summing to one.
        labels: what the states are called.
        legend: name the states beside the Axes.
    """
    states = probabilities.shape[1]
    _, edges = positions(axes, time)
    tops = np.cumsum(probabilities, axis=1)
    tops = np.vstack([tops, tops[-1:]])
    below = np.zeros(len(tops))
    for k, colour in enumerate(state_colours(states)):
        axes.fill_between(edges, below, tops[:, k], step="post", color=colour, linewidth=0)
        below = tops[:, k]
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    dress(axes, y="probability")
    axes.grid(False)
    if legend:
        _state_legend(axes, states, labels)
    return axes


def positions(axes: Axes, time: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where steps stand on the x axis (T,) and where each begins and ends (T + 1,); dates get a date axis."""
    if isinstance(time, pd.PeriodIndex):
        time = time.to_timestamp()
    if isinstance(time, pd.DatetimeIndex):
        clock = time.tz_localize(None)
        x = np.asarray(mdates.date2num(clock.to_numpy()))
        locator = mdates.AutoDateLocator(minticks=4, maxticks=13)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator, show_offset=False))
    elif isinstance(time, pd.TimedeltaIndex):
        x = np.asarray(time.total_seconds())
    else:
        kind: Any = np.asarray(time).dtype
        x = np.asarray(time, dtype=float) if np.issubdtype(kind, np.number) else np.arange(len(time), dtype=float)
    step = float(np.median(np.diff(x))) if len(x) > 1 else 1.0
    middle = (x[:-1] + x[1:]) / 2
    return x, np.concatenate([[x[0] - step / 2], middle, [x[-1] + step / 2]])


def _band(axes: Axes, edges: np.ndarray, state: np.ndarray, states: int) -> None:
    """A strip of state colours just under the x axis."""
    changes = np.flatnonzero(np.diff(state)) + 1
    first = np.concatenate([[0], changes])
    last = np.concatenate([changes, [len(state)]])
    for k, colour in enumerate(state_colours(states)):
        mine = state[first] == k
        spans = list(zip(edges[first[mine]], edges[last[mine]] - edges[first[mine]], strict=True))
        where = (-STRIP, STRIP * 0.9)
        axes.broken_barh(spans, where, color=colour, linewidth=0, transform=axes.get_xaxis_transform(), clip_on=False)


def _bar_width(axes: Axes, steps: int) -> float:
    """Line width in points that leaves a hair between bars."""
    return float(np.clip(0.75 * _points(axes)[0] / max(steps, 1), 0.5, 12))


def _points(axes: Axes) -> tuple[float, float]:
    """Width and height of the Axes, in points."""
    drawn_on, size = axes.get_figure(True), axes.get_window_extent()
    scale = 72 / (drawn_on.dpi if drawn_on is not None else 72)
    return size.width * scale, size.height * scale


def _state_legend(axes: Axes, states: int, labels: Sequence[str] | None) -> None:
    patches = [Patch(color=c, label=n) for c, n in zip(state_colours(states), names_of(states, labels), strict=True)]
    axes.legend(
        handles=patches,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=min(states, 4),
        borderpad=0,
    )
