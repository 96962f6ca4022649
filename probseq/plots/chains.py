"""How the chains of a sampler went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probseq.plots.style import dress, legend, state_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 1000
"""Points of a chain that are drawn."""


def chain_traces(axes: Axes, values: np.ndarray, *, what: str = "log density (nats)") -> Axes:
    """One number's draws in order, a line for each chain: chains that agree lie on each other.

    Args:
        axes: to draw on.
        values: (chains, draws); of long chains every so many draws are shown.
        what: what the number is called.
    """
    apart = max(1, values.shape[1] // SHOWN)
    for chain, colour in enumerate(state_colours(len(values))):
        drawn = np.arange(1, values.shape[1] + 1)[::apart]
        axes.plot(drawn, values[chain, ::apart], color=colour, linewidth=0.6, alpha=0.75, label=f"chain {chain}")
    dress(axes, x="draw", y=what)
    legend(axes, loc="lower right", ncols=min(4, len(values)))
    return axes


def chain_ranks(axes: Axes, values: np.ndarray, *, bins: int = 20, what: str = "") -> Axes:
    """Where each chain's draws stand among those of all: level bars mean that chains agree (Vehtari et al. 2021).

    Args:
        axes: to draw on.
        values: (chains, draws).
        bins: of the ranks.
        what: what the number is called.
    """
    ranks = values.reshape(-1).argsort().argsort().reshape(values.shape)
    edges = np.linspace(0, values.size, bins + 1)
    for chain, colour in enumerate(state_colours(len(values))):
        counts, _ = np.histogram(ranks[chain], edges)
        axes.stairs(counts, edges, color=colour, linewidth=1.2, label=f"chain {chain}")
    axes.axhline(values.shape[1] / bins, color="0.5", linewidth=0.8, linestyle="--")
    axes.set_ylim(bottom=0)
    dress(axes, x=f"rank of {what}" if what else "rank among all draws", y="draws")
    return axes
