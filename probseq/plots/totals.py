"""Totals by calendar month, observed against simulated."""

import pandas as pd
from matplotlib.axes import Axes

from probseq.diagnostics.dependence import MONTHS, month_sums
from probseq.plots.style import MODEL, OBSERVED, dress, legend

__all__ = ["MONTHS", "month_sums", "monthly_totals", "months_outside"]


def monthly_totals(
    axes: Axes, observed: pd.DataFrame, simulated: pd.DataFrame, *, label: str = "monthly total", band: float = 0.9
) -> Axes:
    """Mean total of each calendar month: the data, each year, and a band over simulations of the same years.

    Args:
        axes: to draw on.
        observed: as `month_sums` gives it, one column.
        simulated: as `month_sums` gives it, one column a simulation, the same months.
        label: of the y axis, with its unit.
        band: probability that the band covers, in each month on its own.
    """
    by_month = simulated.groupby(level="month").mean()
    low, middle, high = (by_month.quantile(q, axis=1) for q in ((1 - band) / 2, 0.5, (1 + band) / 2))
    months = by_month.index.to_numpy()
    for place, bottom, centre, top in zip(months, low, middle, high, strict=True):
        first = place == months[0]
        name = f"simulated mean, {band:.0%} of {simulated.shape[1]} runs" if first else None
        axes.bar(place, top - bottom, 0.72, bottom, color=MODEL, alpha=0.22, linewidth=0, label=name)
        axes.plot(
            [place - 0.36, place + 0.36],
            [centre] * 2,
            color=MODEL,
            linewidth=1.5,
            label="simulated mean, median run" if first else None,
        )
    years = observed.iloc[:, 0]
    faint = 0.55 if len(years) <= 12 * 15 else 0.15
    axes.plot(
        years.index.get_level_values("month"),
        years,
        "o",
        markersize=4,
        markerfacecolor="none",
        alpha=faint,
        markeredgecolor=OBSERVED,
        markeredgewidth=0.8,
        label="observed, each year",
    )
    means = years.groupby(level="month").mean()
    axes.plot(means.index, means, "D", color=OBSERVED, markersize=5, label="observed mean")
    axes.set_xticks(range(1, 13), MONTHS)
    axes.set_xlim(0.4, 12.6)
    axes.set_ylim(bottom=0, top=1.12 * max(years.max(), high.max()))
    dress(axes, y=label)
    legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderpad=0, columnspacing=1.0, handletextpad=0.5)
    return axes


def months_outside(observed: pd.DataFrame, simulated: pd.DataFrame, band: float = 0.9) -> list[str]:
    """The months whose observed mean total leaves the band of simulated means."""
    by_month = simulated.groupby(level="month").mean()
    seen = observed.iloc[:, 0].groupby(level="month").mean()
    low, high = by_month.quantile((1 - band) / 2, axis=1), by_month.quantile((1 + band) / 2, axis=1)
    off = (seen < low) | (seen > high)
    return [MONTHS[int(month) - 1] for month in seen.index[off]]
