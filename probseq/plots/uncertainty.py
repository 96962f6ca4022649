"""Where along a series the hidden path is not known, and where it may change."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from probseq.plots.states import positions
from probseq.plots.style import INK, MODEL, dress, legend


def path_uncertainty(
    axes: Axes, time: pd.Index | np.ndarray, entropy: np.ndarray, change: np.ndarray, *, states: int
) -> Axes:
    """The entropy of each step's state, as a share of its most, and the probability of a change after it.

    Args:
        axes: to draw on.
        time: (T,) dates, periods or numbers, increasing.
        entropy: (T,) nats, of the state of each step.
        change: (T,) p(z_t != z_t+1 | x).
        states: K, whose logarithm is the largest entropy.
    """
    x, edges = positions(axes, time)
    share = np.asarray(entropy) / math.log(states) if states > 1 else np.zeros(len(x))
    axes.fill_between(
        edges, np.append(share, share[-1:]), step="post", color=MODEL, alpha=0.3, linewidth=0, label="entropy / log K"
    )
    axes.vlines(edges[1:-1], 0, np.asarray(change)[:-1], colors=INK, linewidth=1.0, label="change after the step")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    dress(axes, y="uncertainty")
    legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)
    return axes
