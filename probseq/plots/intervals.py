"""How sure the parameters are: intervals by several methods side by side, and profile likelihoods."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from probseq.plots.style import INK, MISSING, MODEL, MUTED, dress, legend

COLOURS = (MODEL, "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
"""Of methods; those of Okabe & Ito (2008)."""


def parameter_intervals(
    axes: Axes, tables: Mapping[str, pd.DataFrame], *, names: Sequence[str] | None = None, logarithmic: bool = False
) -> Axes:
    """A forest plot: a row a parameter, the interval of each method in a colour of its own.

    Args:
        axes: to draw on.
        tables: method -> frame with a row a parameter and the columns `estimate`, `lower` and `upper`; an interval
            that is NaN is left out, one without an end has an arrow there.
        names: the parameters to show, from the top; by default those of the first method that has them.
        logarithmic: whether the axis is.
    """
    shown = list(next(iter(tables.values())).index) if names is None else list(names)
    width = 0.6 / max(len(tables), 1)
    for number, (method, table) in enumerate(tables.items()):
        colour = COLOURS[number % len(COLOURS)]
        rows = table.reindex(shown)
        height = np.arange(len(shown)) + (number - 0.5 * (len(tables) - 1)) * width
        lower, upper = rows["lower"].to_numpy(float), rows["upper"].to_numpy(float)
        known = ~(np.isnan(lower) | np.isnan(upper))
        ends = (
            np.where(np.isfinite(lower), lower, rows["estimate"]),
            np.where(np.isfinite(upper), upper, rows["estimate"]),
        )
        axes.hlines(height[known], ends[0][known], ends[1][known], color=colour, linewidth=2.0, label=method)
        axes.plot(rows["estimate"], height, "o", color=colour, markersize=5, markeredgecolor="white", zorder=3)
        for side, end, marker in ((0, lower, "<"), (1, upper, ">")):
            open_end = known & np.isinf(end)
            axes.plot(ends[side][open_end], height[open_end], marker, color=colour, markersize=8)
    axes.set_yticks(np.arange(len(shown)), shown)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    if logarithmic:
        axes.set_xscale("log")
    dress(axes, x="value, with its interval")
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    for edge in np.arange(len(shown) - 1) + 0.5:
        axes.axhline(edge, color="#e4e4e4", linewidth=0.8, zorder=0)
    if len(tables) > 1:
        legend(axes, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(tables), borderaxespad=0.2)
    return axes


def profile_curve(
    axes: Axes,
    values: np.ndarray,
    drop: np.ndarray,
    *,
    name: str,
    estimate: float,
    interval: tuple[float, float],
    threshold: float,
    error: float | None = None,
) -> Axes:
    """The profile log-likelihood of one parameter below its maximum, its interval, and the parabola of the Hessian.

    Args:
        axes: to draw on.
        values: (V,) of the parameter, ascending.
        drop: (V,) nats below the maximum.
        name: of the parameter.
        estimate: where the maximum is.
        interval: the lower and upper end; an infinite one is not drawn.
        threshold: nats below the maximum where the interval ends.
        error: standard error, for the parabola -(x - estimate)^2 / (2 error^2).
    """
    from scipy.interpolate import PchipInterpolator

    unique, first = np.unique(values, return_index=True)
    fine = np.linspace(unique[0], unique[-1], 300) if len(unique) > 1 else unique
    root = np.sign(unique - estimate) * np.sqrt(
        2.0 * np.maximum(drop[first], 0.0)
    )  # nearly straight, so interpolate it
    curve = -0.5 * PchipInterpolator(unique, root)(fine) ** 2 if len(unique) > 1 else -drop[first]
    axes.axhline(-threshold, color=MISSING, linewidth=0.9, linestyle="--")
    inside = (fine >= interval[0]) & (fine <= interval[1])
    axes.fill_between(fine[inside], curve[inside], -threshold, color=MODEL, alpha=0.15, linewidth=0)
    if error is not None:
        parabola = -0.5 * ((fine - estimate) / error) ** 2
        axes.plot(fine, parabola, color=MUTED, linewidth=1.2, linestyle=":", label="by the Hessian")
    axes.plot(fine, curve, color=MODEL, linewidth=1.8, label="profile")
    axes.plot(values, -drop, ".", color=MODEL, markersize=4)
    for end in interval:
        if np.isfinite(end):
            axes.plot([end, end], [-threshold, -1.6 * threshold], color=INK, linewidth=0.9)
            axes.annotate(
                f"{end:.3g}", (end, -1.6 * threshold), (3, 0), textcoords="offset points", color=INK, fontsize=9
            )
    axes.set_ylim(-1.7 * threshold, 0.08 * threshold)
    dress(axes, x=name, y="log-likelihood, below\nits maximum (nats)")
    legend(axes, loc="lower center")
    return axes
