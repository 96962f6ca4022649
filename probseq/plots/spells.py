"""How long spells last: runs of wet or of dry steps, observed against simulated."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from probseq.diagnostics.dependence import spell_durations
from probseq.plots.style import MODEL, OBSERVED, SHARES, dress, legend

__all__ = ["exceedance", "outside_band", "spell_durations", "spell_lengths"]


def exceedance(durations: np.ndarray, longest: int) -> np.ndarray:
    """Share of spells that last at least 1, 2, ..., `longest` steps; NaN where there is no spell."""
    if len(durations) == 0:
        return np.full(longest, np.nan)
    counts = np.bincount(np.minimum(durations, longest), minlength=longest + 1)[1:]
    return counts[::-1].cumsum()[::-1] / len(durations)


def spell_lengths(
    axes: Axes,
    observed: np.ndarray,
    simulated: Sequence[np.ndarray],
    *,
    step: str = "day",
    what: str = "wet spells",
    band: float = 0.9,
) -> Axes:
    """Share of spells that last at least so many steps: dots for the data, a band for simulations of the same size.

    Args:
        axes: to draw on.
        observed: (spells,) durations in steps.
        simulated: durations in each simulation.
        step: what one step is called.
        what: what the spells are called.
        band: probability that the band covers, at each duration on its own.
    """
    longest = int(max([observed.max(initial=1), *(np.quantile(s, 0.999) for s in simulated if len(s))]))
    days = np.arange(1, longest + 1)
    runs = np.stack([exceedance(s, longest) for s in simulated])
    low, middle, high = np.nanquantile(runs, [(1 - band) / 2, 0.5, (1 + band) / 2], axis=0)
    floor = 0.5 / max(len(observed), 1)
    axes.fill_between(
        days,
        np.maximum(low, floor),
        np.maximum(high, floor),
        color=MODEL,
        alpha=0.22,
        linewidth=0,
        label=f"{band:.0%} of {len(simulated)} simulations",
    )
    axes.plot(days, np.where(middle >= floor, middle, np.nan), color=MODEL, linewidth=1.5, label="simulated, median")
    seen = exceedance(observed, longest)
    axes.plot(
        days[seen > 0], seen[seen > 0], "o", color=OBSERVED, markersize=4.5, label=f"observed, {len(observed):,} spells"
    )
    axes.set_yscale("log")
    axes.set_ylim(floor, 1.3)
    axes.set_xlim(0.5, longest + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(SHARES)
    dress(axes, x=f"{step}s, at least", y="share of spells", title=what[:1].upper() + what[1:])
    legend(axes, loc="upper right")
    return axes


def outside_band(observed: np.ndarray, simulated: Sequence[np.ndarray], band: float = 0.9) -> tuple[int, int, int]:
    """(durations at which the observed share lies above the band, below it, and durations compared).

    Those that 5 observed spells or more reach are compared, from the second on: every spell lasts one step.
    """
    counts = exceedance(observed, int(observed.max(initial=1))) * len(observed)
    longest = int((counts >= 5).sum())
    if longest < 2:
        return 0, 0, 0
    runs = np.stack([exceedance(durations, longest) for durations in simulated])
    low, high = np.nanquantile(runs, [(1 - band) / 2, (1 + band) / 2], axis=0)
    seen = exceedance(observed, longest)
    return int((seen > high + 1e-12)[1:].sum()), int((seen < low - 1e-12)[1:].sum()), longest - 1
