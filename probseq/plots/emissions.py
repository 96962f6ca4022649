"""What each state emits, over a histogram of the data.

Curves and bars are both the share of steps in a bin, so nothing depends on the scale of the axis: the share of state k
in the bin (a, b] is weight_k (F_k(b) - F_k(a)), with F_k its cumulative distribution function. On a logarithmic axis
bins differ in width, and both are divided by log2(b / a): shares per doubling.
"""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from probseq.plots.style import INK, MISSING, MUTED, SHARES, dress, legend, names_of, state_colours

Cdf = Callable[[np.ndarray], np.ndarray]


def bins_for(values: np.ndarray, *, counts: bool) -> tuple[np.ndarray, bool]:
    """Edges of a histogram, and whether it needs a logarithmic axis.

    Skewed positive data get a logarithmic axis, and edges half-way between the values that occur, so that rounded data
    fall into bins as they were rounded.

    Args:
        values: (n,) measured values; exact zeros are to be left out where a family has an extra zero.
        counts: whether values are whole numbers, which get bins around them.
    """
    low, high = float(values.min()), float(values.max())
    if counts:
        width = max(1, round((high - low) / 40))
        return np.arange(low - 0.5, high + width + 0.5, width), False
    if high == low:
        return np.array([low - 0.5, low + 0.5]), False
    if not (low > 0 and high / float(np.median(values)) > 6):
        return np.linspace(low, high, int(np.clip(np.sqrt(len(values)), 12, 48)) + 1), False
    distinct = np.unique(values)
    between = (distinct[:-1] + distinct[1:]) / 2
    least = max((high / low) ** (1 / 24), 1.15)
    edges = [max(low - (distinct[1] - low) / 2, low / 2)]
    for edge in between:
        if edge >= edges[-1] * least:
            edges.append(float(edge))
    return np.array([*edges, max(high * 1.02, edges[-1] * least)]), True


def emission_densities(
    axes: Axes,
    values: np.ndarray,
    cdf: Cdf,
    weights: np.ndarray,
    *,
    counts: bool = False,
    extra_zero: bool = False,
    label: str = "",
    step: str = "step",
    labels: Sequence[str] | None = None,
) -> Axes:
    """Histogram of the data, with the share of each state and of the whole model.

    Args:
        axes: to draw on.
        values: (n,) measured values.
        cdf: P(X <= x | state), (R,) -> (R, K).
        weights: (K,) share of steps in each state.
        counts: whether values are whole numbers.
        extra_zero: leave the exact zeros out of the histogram and say their share in words.
        label: of the x axis, with its unit.
        step: what one step is called.
        labels: what the states are called.
    """
    shown = values[values != 0] if extra_zero else values
    edges, logarithmic = bins_for(shown, counts=counts)
    per = np.log2(edges[1:] / edges[:-1]) if logarithmic else np.ones(len(edges) - 1)
    observed = np.histogram(shown, edges)[0] / len(values) / per
    shares = np.diff(cdf(edges), axis=0) * weights / per[:, None]
    axes.stairs(observed, edges, fill=True, color=MISSING, alpha=0.55, label="observed")
    middle = np.sqrt(edges[:-1] * edges[1:]) if logarithmic else (edges[:-1] + edges[1:]) / 2
    marker = "." if counts and len(middle) <= 60 else None
    for k, (colour, name) in enumerate(zip(state_colours(len(weights)), names_of(len(weights), labels), strict=True)):
        axes.plot(middle, shares[:, k], color=colour, linewidth=1.8, marker=marker, label=name)
    if len(weights) > 1:
        axes.plot(middle, shares.sum(1), color=INK, linewidth=1, linestyle="--", label="all states")
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(SHARES)
    dress(axes, x=label, y=f"share of {step}s" + (" per doubling" if logarithmic else ""))
    if extra_zero:
        model = float((np.diff(cdf(np.array([-1e-300, 0.0])), axis=0)[0] * weights).sum())
        said = f"not shown: zero, {np.mean(values == 0):.1%} of {step}s observed, {model:.1%} in the model"
        axes.set_title(said, loc="left", fontsize=9, color=MUTED)
    legend(axes, loc="upper right")
    return axes


def symbol_shares(
    axes: Axes,
    observed: np.ndarray,
    probabilities: np.ndarray,
    symbols: Sequence[str],
    *,
    step: str = "step",
    labels: Sequence[str] | None = None,
) -> Axes:
    """The chance of each symbol in each state, beside its share of the data.

    Args:
        axes: to draw on.
        observed: (M,) shares of the data.
        probabilities: (K, M).
        symbols: M names.
        step: what one step is called.
        labels: what the states are called.
    """
    states = len(probabilities)
    width = 0.8 / (states + 1)
    place = np.arange(len(symbols))
    axes.bar(place - 0.4 + width / 2, observed, 0.92 * width, color=MISSING, label="observed")
    for k, (colour, name) in enumerate(zip(state_colours(states), names_of(states, labels), strict=True)):
        axes.bar(place - 0.4 + (k + 1.5) * width, probabilities[k], 0.92 * width, color=colour, label=name)
    axes.set_xticks(place, list(symbols))
    axes.set_ylim(0, None)
    axes.yaxis.set_major_formatter(SHARES)
    dress(axes, y=f"share of {step}s")
    legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=min(states + 1, 5), borderpad=0)
    return axes
