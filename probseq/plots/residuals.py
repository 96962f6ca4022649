"""Normal pseudo-residuals over time, against the normal law, and against themselves some steps before."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy import stats

from probseq.diagnostics.dependence import autocorrelations
from probseq.plots.checks import OUTSIDE
from probseq.plots.states import positions
from probseq.plots.style import INK, MODEL, MUTED, OBSERVED, dress, legend

REACH = 0.5
"""How far beyond the outermost residual the axis goes; segments without an end stop there."""


def residual_series(
    axes: Axes, time: pd.Index | np.ndarray, residuals: pd.DataFrame, *, column: str = "", label: str = "residual"
) -> Axes:
    """Normal pseudo-residuals over time: a point each, or the segment of a count, a symbol or a zero.

    Lines stand at the 2.5% and 97.5% and, fainter, the 0.5% and 99.5% points of the normal law; residuals beyond the
    outer ones are marked.

    Args:
        axes: to draw on.
        time: (T,) dates, periods or numbers, increasing.
        residuals: as `diagnostics.forecast_residuals` or `ordinary_residuals` give them.
        column: of the data, where there are several.
        label: of the y axis.
    """
    low, high, middle = (_normal(residuals, column, kind) for kind in ("_lower", "_upper", "_mid"))
    x, edges = positions(axes, time)
    known = np.isfinite(middle)
    reach = max(3.2, float(np.abs(middle[known]).max(initial=0.0))) + REACH
    long = known & (high - low > 1e-6)
    far = known & (np.abs(middle) > stats.norm.ppf(0.995))
    ends = [np.clip(end, -reach, reach)[long] for end in (low, high)]
    faint = float(np.clip(40 / max(int(long.sum()), 1), 0.05, 0.35))  # many segments would hide the points
    axes.vlines(x[long], ends[0], ends[1], colors=MODEL, alpha=faint)
    size = float(np.clip(9000 / max(len(x), 1), 2, 16))
    axes.scatter(x[known & ~far], middle[known & ~far], s=size, color=OBSERVED, linewidths=0, zorder=2)
    name = f"{int(far.sum())} beyond 99%"
    axes.scatter(x[far], middle[far], s=size + 8, color=OUTSIDE, linewidths=0, zorder=3, label=name)
    for share, style in ((0.975, "-"), (0.995, ":")):
        for sign in (-1, 1):
            axes.axhline(sign * float(stats.norm.ppf(share)), color=MUTED, linewidth=0.8, linestyle=style)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(-reach, reach)
    dress(axes, y=label)
    axes.grid(False)
    if far.any():
        legend(axes, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)
    return axes


def residual_quantiles(axes: Axes, residuals: pd.DataFrame, *, column: str = "", band: float = 0.95) -> Axes:
    """Ordered residuals against the quantiles of the normal law, with a band for each place on its own.

    Args:
        axes: to draw on.
        residuals: as `diagnostics.forecast_residuals` or `ordinary_residuals` give them.
        column: of the data, where there are several.
        band: probability that the band covers at each place, of independent residuals (beta law of an order statistic).
    """
    z = np.sort(_finite(residuals, column))
    place = np.arange(1, len(z) + 1)
    x = stats.norm.ppf((place - 0.5) / len(z))
    low, high = (stats.norm.ppf(stats.beta.ppf(q, place, len(z) + 1 - place)) for q in ((1 - band) / 2, (1 + band) / 2))
    axes.fill_between(x, low, high, color=MODEL, alpha=0.22, linewidth=0, label=f"{band:.0%} at each place")
    axes.plot(x[[0, -1]], x[[0, -1]], color=MODEL, linewidth=1.2)
    axes.plot(x, z, "o", color=OBSERVED, markersize=3, markeredgewidth=0)
    dress(axes, x="normal quantile", y="residual")
    legend(axes, loc="upper left")
    return axes


def residual_histogram(axes: Axes, residuals: pd.DataFrame, *, column: str = "") -> Axes:
    """The density of the residuals with the standard normal one.

    Args:
        axes: to draw on.
        residuals: as `diagnostics.forecast_residuals` or `ordinary_residuals` give them.
        column: of the data, where there are several.
    """
    z = _finite(residuals, column)
    reach = max(3.5, float(np.abs(z).max(initial=0.0)))
    bins = int(np.clip(2 * reach * len(z) ** (1 / 3) / 3.5, 7, 200))
    axes.hist(z, bins=bins, range=(-reach, reach), density=True, color=MUTED, alpha=0.45, label=f"{len(z):,} residuals")
    x = np.linspace(-reach, reach, 400)
    axes.plot(x, stats.norm.pdf(x), color=MODEL, linewidth=1.6, label="standard normal")
    dress(axes, x="residual", y="density")
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])
    legend(axes, loc="upper left")
    return axes


def residual_autocorrelation(
    axes: Axes,
    residuals: pd.DataFrame,
    *,
    column: str = "",
    lags: int = 20,
    lengths: Sequence[int] | None = None,
    squared: bool = False,
) -> Axes:
    """Autocorrelation of residuals, or of their squares, with the band of independent ones.

    Args:
        axes: to draw on.
        residuals: as `diagnostics.forecast_residuals` gives them; ordinary ones are dependent under any model.
        column: of the data, where there are several.
        lags: how many, in steps.
        lengths: (N,) steps of each sequence; None takes all as one.
        squared: of the squares, which tell of a spread that changes.
    """
    z = _normal(residuals, column, "")
    z = np.where(np.isfinite(z), z, np.nan)
    sizes = [len(z)] if lengths is None else list(lengths)
    lags = min(lags, max(sizes) - 1)
    steps = np.arange(1, lags + 1)
    found = autocorrelations(z**2 if squared else z, sizes, steps.tolist())
    limit = float(stats.norm.ppf(0.975) / np.sqrt(max(int((~np.isnan(z)).sum()), 1)))
    axes.axhspan(-limit, limit, color=MODEL, alpha=0.18, linewidth=0, label="95% if independent")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.vlines(steps, 0, found, colors=INK, linewidth=1.6)
    axes.plot(steps, found, "o", color=OBSERVED, markersize=3.5)
    top = 1.35 * max(float(np.nanmax(np.abs(found), initial=0.0)), 1.6 * limit)
    axes.set_ylim(-top, top)
    axes.set_xlim(0.3, lags + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    dress(axes, x="lag, steps", y="autocorrelation" + (" of squares" if squared else ""))
    legend(axes, loc="upper right")
    return axes


def _normal(residuals: pd.DataFrame, column: str, kind: str) -> np.ndarray:
    values: Any = residuals[f"normal{kind}" + (f"_{column}" if column else "")]
    return values.to_numpy(float)


def _finite(residuals: pd.DataFrame, column: str) -> np.ndarray:
    z = _normal(residuals, column, "")
    return z[np.isfinite(z)]
