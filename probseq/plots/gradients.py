"""Gradients on their way back through time: how they shrink with the span, and what theory says they should."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from probseq.plots.style import INK, MISSING, MODEL, MUTED, dress, legend, state_colours
from probseq.recurrent.jacobians import Decay
from probseq.recurrent.products import Growth


def gradient_spans(
    axes: Axes, norms: Mapping[str, np.ndarray], *, fits: Mapping[str, Decay] | None = None, title: str = ""
) -> Axes:
    """The norm of dL_T / ds_{T-k} against the span k, one line a cell, on a logarithmic axis.

    Args:
        axes: to draw on.
        norms: by name, (L,) at spans 1..L, as `gradient_norms` gives them; zeros are left out.
        fits: by the same names, the lines through them, drawn dashed.
        title: of the figure.
    """
    for (name, values), colour in zip(norms.items(), state_colours(len(norms)), strict=True):
        shown = np.where(values > 0, values, np.nan)
        axes.plot(np.arange(1, len(values) + 1), shown, color=colour, linewidth=1.6, label=name)
        if fits is not None and name in fits:
            ends = np.array([fits[name].first, fits[name].last])
            axes.plot(ends, fits[name].norm(ends), color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_yscale("log")
    dress(axes, x="span k (steps back from the loss)", y="norm of $dL_T/ds_{T-k}$", title=title)
    legend(axes)
    return axes


def exponent_agreement(
    axes: Axes, theory: np.ndarray, fitted: np.ndarray, *, names: Sequence[str] | None = None
) -> Axes:
    """Fitted slopes of log gradient norms against log spectral radii; on the diagonal where theory holds.

    Args:
        axes: to draw on.
        theory: (n,) logs of spectral radii, nats per step.
        fitted: (n,) slopes, nats per step.
        names: of each point, written beside it.
    """
    ends = [min(np.min(theory), np.min(fitted)), max(np.max(theory), np.max(fitted))]
    axes.plot(ends, ends, color=MISSING, linewidth=1.2, zorder=1)
    axes.plot(theory, fitted, "o", color=MODEL, markersize=5, zorder=2)
    for place in range(len(names or ())):
        axes.annotate(
            (names or ())[place], (theory[place], fitted[place]), (7, -3), textcoords="offset points", size=8, color=INK
        )
    axes.margins(x=0.12)
    return dress(axes, x="log of the spectral radius (nats a step)", y="fitted slope\n(nats a step)")


def singular_spectrum(axes: Axes, logs: np.ndarray, *, title: str = "") -> Axes:
    """The singular values of ds_T / ds_{T-k} against the span, the greatest in full colour.

    Args:
        axes: to draw on.
        logs: (L, S) nats at spans 1..L, greatest first, as `log_singular_values` gives them for one sequence; what is
            below the precision of float64 beside the greatest is left out.
        title: of the figure.
    """
    spans = np.arange(1, len(logs) + 1)
    seen = np.isfinite(logs) & (logs > logs[:, :1] + np.log(np.finfo(float).eps) + np.log(logs.shape[1]))
    shown = np.where(seen, logs, np.nan) / np.log(10)
    for place in reversed(range(shown.shape[1])):
        colour, width = (MODEL, 1.8) if place == 0 else (MUTED, 0.7)
        label = {0: "greatest", 1: "the others"}.get(place)
        axes.plot(spans, shown[:, place], color=colour, linewidth=width, label=label)
    axes.axhline(0, color=INK, linewidth=0.6)
    dress(axes, x="span k (steps)", y="$\\log_{10}$ singular value\nof $ds_T/ds_{T-k}$", title=title)
    legend(axes)
    return axes


def product_growth(
    axes: Axes, found: Mapping[str, Growth], spreads: Mapping[str, float] | None = None, *, title: str = ""
) -> Axes:
    """The variance of the logarithm of random products against their length.

    Args:
        axes: to draw on.
        found: by name, what `growth` says of replicates.
        spreads: by the same names, the variance per factor in closed form, drawn as a dashed line.
        title: of the figure.
    """
    for (name, one), colour in zip(found.items(), state_colours(len(found)), strict=True):
        lengths = np.arange(1, len(one.variance) + 1)
        axes.plot(lengths, one.variance, color=colour, linewidth=1.6, label=name)
        if spreads is not None and name in spreads:
            axes.plot(lengths, spreads[name] * lengths, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    dress(axes, x="factors", y="variance of the\nlog of the product", title=title)
    legend(axes)
    return axes


def product_paths(axes: Axes, logs: np.ndarray, drift: float, *, title: str = "") -> Axes:
    """Logarithms of random products against their length, a line each, and their drift.

    Args:
        axes: to draw on.
        logs: (R, T) nats, as `log_products` or `log_lengths` gives them.
        drift: the mean growth per factor, nats.
        title: of the figure.
    """
    lengths = np.arange(1, logs.shape[1] + 1)
    axes.plot(lengths, logs.T, color=MUTED, linewidth=0.5, alpha=0.5)
    axes.plot(lengths, drift * lengths, color=MODEL, linewidth=2, label=f"drift {drift:.3g} a factor")
    dress(axes, x="factors", y="log of the product\n(nats)", title=title)
    legend(axes)
    return axes
