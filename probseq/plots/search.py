"""How a fit was found: which number of states, which restart, how the objective rose."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from probseq.plots.style import INK, MISSING, MODEL, MUTED, dress, legend


def state_selection(axes: Axes, table: pd.DataFrame, *, chosen: int | None = None) -> Axes:
    """AIC and BIC against the number of states; lower is better, the chosen one is ringed.

    Args:
        axes: to draw on.
        table: columns `states`, `aic` and `bic`.
        chosen: the number of states chosen; by default that with the lowest BIC.
    """
    states = table["states"].to_numpy()
    for name, colour, marker in (("aic", MUTED, "s"), ("bic", MODEL, "o")):
        axes.plot(states, table[name], color=colour, marker=marker, linewidth=1.4, label=name.upper())
    pick = int(states[int(np.argmin(table["bic"]))]) if chosen is None else chosen
    lowest = float(table.loc[table["states"] == pick, "bic"].iloc[0])
    axes.plot([pick], [lowest], "o", markersize=14, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.2)
    axes.annotate(f"{pick}", (pick, lowest), (0, 11), textcoords="offset points", ha="center", color=INK, fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.08, y=0.16)
    dress(axes, x="states", y="criterion (lower is better)")
    legend(axes, loc="upper right")
    return axes


def objective_trace(axes: Axes, objective: np.ndarray, *, what: str = "log-likelihood") -> Axes:
    """What is still to gain at each iteration of a fit, on a logarithmic axis.

    Args:
        axes: to draw on.
        objective: (iterations,) what was maximised, nats.
        what: what it is called.
    """
    gap = objective.max() - objective
    shown = gap > 0
    iterations = np.arange(1, len(objective) + 1)
    axes.plot(iterations[shown], gap[shown], color=MODEL, linewidth=1.4, marker=".", markersize=4)
    if shown.any():
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress(axes, x="iteration", y=f"{what}:\nstill to gain (nats)")
    return axes


def restart_outcomes(axes: Axes, objectives: Sequence[float], *, what: str = "log-likelihood") -> Axes:
    """Where each start of a fit ended, below the best of them.

    Args:
        axes: to draw on.
        objectives: one value a start, NaN where it failed.
        what: what it is called.
    """
    values = np.asarray(objectives, dtype=float)
    starts = np.arange(len(values))
    gap = values - np.nanmax(values)
    low = min(float(np.nanmin(gap)), -1.0)  # less than a nat apart is the same answer
    axes.axhline(0, color=MISSING, linewidth=0.8)
    axes.plot(starts, gap, "o", color=MODEL, markersize=6)
    for start in starts[np.isnan(values)]:
        axes.plot([start], [low * 1.1], "x", color=MUTED, markersize=7)
    axes.set_ylim(low * 1.15, -0.12 * low)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress(axes, x="start", y=f"{what}:\nbelow the best (nats)")
    return axes
