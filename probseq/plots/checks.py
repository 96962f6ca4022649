"""Statistics of the data against their bands over series that the model makes."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from probseq.plots.style import INK, MODEL, MUTED, OBSERVED, dress, legend

OUTSIDE = "#D55E00"
FARTHEST = 1.5
"""Widths of a band beyond which an observed statistic is drawn at the edge, as an arrow."""


def predictive_check(axes: Axes, table: pd.DataFrame) -> Axes:
    """One row a statistic, each on the scale of its own band: the data's value against 5% to 95% of the replicates.

    Args:
        axes: to draw on; give it about a quarter of an inch a row.
        table: as `diagnostics.predictive_check` gives it.
    """
    shown = table[table["observed"].notna() & table["q0.5"].notna()]
    width = (shown["q0.95"] - shown["q0.05"]).to_numpy()
    width = np.where(width > 0, width, np.maximum((shown["observed"] - shown["q0.5"]).abs(), 1e-300))
    low, high, seen = (((shown[name] - shown["q0.5"]) / width).to_numpy() for name in ("q0.05", "q0.95", "observed"))
    rows = np.arange(len(shown))
    axes.barh(rows, high - low, 0.62, low, color=MODEL, alpha=0.22, linewidth=0, label="90% of replicates")
    axes.vlines(np.zeros(len(rows)), rows - 0.31, rows + 0.31, colors=MODEL, linewidth=1.5)
    inside, near = shown["inside"].to_numpy(bool), np.abs(seen) <= FARTHEST
    axes.plot(seen[inside & near], rows[inside & near], "o", color=OBSERVED, markersize=5, label="observed, inside")
    out = ~inside & near
    axes.plot(
        seen[out], rows[out], "D", color=OUTSIDE, markersize=5, label=f"observed, outside ({int((~inside).sum())})"
    )
    for sign, mark in ((-1, "<"), (1, ">")):
        beyond = ~near & (np.sign(seen) == sign)
        axes.plot(np.full(int(beyond.sum()), sign * FARTHEST), rows[beyond], mark, color=OUTSIDE, markersize=6)
    for row, (value, chance) in enumerate(zip(shown["observed"], shown["p_value"], strict=True)):
        axes.text(FARTHEST + 0.12, row, f"{value:,.3g}", va="center", ha="left", fontsize=8.5, color=INK)
        axes.text(FARTHEST + 0.78, row, f"{chance:.2f}", va="center", ha="left", fontsize=8.5, color=MUTED)
    if len(rows):
        axes.text(FARTHEST + 0.12, -1.0, "observed", va="center", fontsize=8.5, color=INK)
        axes.text(FARTHEST + 0.78, -1.0, "p", va="center", fontsize=8.5, color=MUTED)
    axes.set_yticks(rows, [str(name) for name in shown.index])
    axes.set_ylim(len(rows) - 0.4, -1.5)
    axes.set_xlim(-FARTHEST - 0.1, FARTHEST + 1.1)
    axes.set_xticks([-1, 0, 1])
    dress(axes, x="from the replicates' median, in widths of their band")
    axes.grid(False)
    legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0)
    return axes
