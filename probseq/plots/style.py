"""How figures look: state colours that colour-blind readers tell apart, plain axes, and figures without a window.

Colours are those of Okabe & Ito (2008), ordered from warm and light to cool and dark, since the states of a fit are
ordered by their mean: a dry state comes out orange, a wet one dark blue.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

INK, MUTED, GRID = "#222222", "#6b6b6b", "#e4e4e4"
OBSERVED, MODEL = "#222222", "#0072B2"
MISSING = "#bdbdbd"
SHARES = FuncFormatter(lambda share, _: f"{100 * share:g}%")
"""Ticks of an axis of shares."""
_PALETTES = {
    1: ("#0072B2",),
    2: ("#E69F00", "#0072B2"),
    3: ("#E69F00", "#56B4E9", "#0B559F"),
    4: ("#E69F00", "#56B4E9", "#0072B2", "#1B2A4A"),
    5: ("#F0B93A", "#D55E00", "#56B4E9", "#0072B2", "#1B2A4A"),
    6: ("#F0B93A", "#D55E00", "#009E73", "#56B4E9", "#0072B2", "#1B2A4A"),
    7: ("#F0B93A", "#D55E00", "#CC79A7", "#009E73", "#56B4E9", "#0072B2", "#1B2A4A"),
}
SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "axes.formatter.useoffset": False,
}


def state_colours(states: int) -> tuple[str, ...]:
    """One colour a state, the lowest state first.

    >>> state_colours(2)
    ('#E69F00', '#0072B2')
    """
    if states in _PALETTES:
        return _PALETTES[states]
    shades = mpl.colormaps["viridis_r"](np.linspace(0.05, 1.0, states))
    return tuple(to_hex(shade) for shade in shades)


def figure(width: float = 9.0, height: float = 3.0, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Figure, Any]:
    """A figure that belongs to no window, and its Axes: one, or an array as `subplots` gives it.

    Args:
        width, height: inches.
        rows, columns: of Axes.
        grid: passed to `Figure.subplots`.
    """
    with mpl.rc_context(SETTINGS):
        made = Figure(figsize=(width, height), layout="constrained")
        return made, made.subplots(rows, columns, **grid)


def dress(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> Axes:
    """Plain spines, a faint horizontal grid behind the data, and labels."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    if x:
        axes.set_xlabel(x, color=INK)
    if y:
        axes.set_ylabel(y, color=INK)
    if title:
        axes.set_title(title, loc="left", color=INK, fontweight="bold", fontsize=10.5)
    return axes


def legend(axes: Axes, **where: Any) -> None:
    """A legend without a frame, if there is anything to name."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK, **where)


def names_of(states: int, labels: Sequence[str] | None) -> list[str]:
    """What the states are called in a legend."""
    return [f"state {k}" for k in range(states)] if labels is None else list(labels)
