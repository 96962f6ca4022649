"""What comes next: the last of the data, and the quantiles of what follows."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from probseq.plots.states import positions
from probseq.plots.style import INK, MODEL, MUTED, OBSERVED, SHARES, dress, legend


def forecast_fan(
    axes: Axes,
    past_time: pd.Index,
    past: np.ndarray,
    future_time: pd.Index,
    forecast: pd.DataFrame,
    *,
    label: str = "",
    bars: bool = False,
) -> Axes:
    """The last steps of a series and a fan of quantiles beyond them, with the mean.

    Args:
        axes: to draw on.
        past_time: (P,) times of the data shown.
        past: (P,) data, NaN where missing.
        future_time: (H,) times of the forecast, after the last of `past_time`.
        forecast: one row a step, as `Fit.forecast` gives it for one sequence: `mean`, and `q0.05`, `q0.5`, ...
        label: of the y axis, with its unit.
        bars: draw the data as bars from zero (amounts and counts).
    """
    joined = (
        past_time.append(future_time) if type(past_time) is type(future_time) else np.arange(len(past) + len(forecast))
    )
    x, edges = positions(axes, joined)
    before, after = x[: len(past)], x[len(past) :]
    step = float(np.median(np.diff(x))) if len(x) > 1 else 1.0
    if bars:
        axes.bar(before, past, 0.8 * step, color=OBSERVED, alpha=0.75, linewidth=0, label="observed")
    else:
        axes.plot(before, past, color=OBSERVED, linewidth=1.1, marker=".", markersize=4, label="observed")
    levels = sorted(float(name[1:]) for name in forecast.columns if name.startswith("q"))
    ahead = np.concatenate([[after[0] - step / 2], after, [after[-1] + step / 2]])
    pairs = [(q, 1 - q) for q in levels if q < 0.5 and any(abs(r - (1 - q)) < 1e-9 for r in levels)]
    for depth, (low, high) in enumerate(pairs, start=1):
        bottom, top = (_held(forecast[f"q{q:g}"]) for q in (low, high))
        axes.fill_between(
            ahead,
            bottom,
            top,
            step="mid",
            color=_shade(depth / (len(pairs) + 1)),
            linewidth=0,
            label=f"{high - low:.0%} interval",
        )
    if 0.5 in levels:
        axes.step(ahead, _held(forecast["q0.5"]), where="mid", color=MODEL, linewidth=1.6, label="median")
    if "mean" in forecast.columns:
        axes.plot(after, forecast["mean"], color=INK, linewidth=1.2, linestyle="--", label="mean")
    axes.axvline(after[0] - step / 2, color=MUTED, linewidth=0.8, linestyle=":")
    axes.set_xlim(edges[0], edges[-1])
    if bars:
        axes.set_ylim(bottom=0)
    dress(axes, y=label)
    legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderpad=0)
    return axes


def chance_ahead(axes: Axes, chance: np.ndarray, *, long_run: float, step: str = "day", what: str = "wet") -> Axes:
    """The chance of an occurrence at each of the next steps, and the one it settles to.

    Args:
        axes: to draw on.
        chance: (H,) by steps ahead, from 1.
        long_run: chance in the stationary law.
        step: what one step is called.
        what: what such a step is called.
    """
    ahead = np.arange(1, len(chance) + 1)
    axes.bar(ahead, chance, 0.8, color=MODEL, alpha=0.75, linewidth=0)
    axes.axhline(long_run, color=INK, linewidth=1, linestyle="--", label="long-run share")
    axes.set_xlim(0.4, len(chance) + 0.6)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(SHARES)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    dress(axes, x=f"{step}s ahead", y=f"chance of a {what} {step}")
    legend(axes, loc="upper right")
    return axes


def _shade(depth: float) -> tuple[float, ...]:
    """The model's colour, mixed with white: 0 is white, 1 the colour."""
    return tuple(1 - depth * 0.75 * (1 - part) for part in to_rgb(MODEL))


def _held(values: pd.Series) -> np.ndarray:
    """The first and last value held for half a step."""
    array = values.to_numpy(dtype=float)
    return np.concatenate([array[:1], array, array[-1:]])
