"""Whether ranks are uniform: simulation-based calibration of a sampler, seen quantity by quantity."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from probseq.diagnostics.calibration import Calibration
from probseq.diagnostics.uniformity import ecdf, ecdf_band
from probseq.plots.style import INK, MISSING, MODEL, SHARES, dress

OUTSIDE = "#D55E00"


def rank_ecdf(axes: Axes, ranks: np.ndarray, *, probability: float = 0.95, what: str = "") -> Axes:
    """How far the share of ranks at or below each point is from what it is for uniform ranks.

    The grey band holds the whole curve of uniform ranks with the probability given (Säilynoja et al. 2022). A curve
    above it on the left and below it on the right is that of draws too narrow; one wholly above, of draws too high.

    Args:
        axes: to draw on.
        ranks: (n,) in [0, 1].
        probability: of the band.
        what: the quantity that was ranked.
    """
    band, share = ecdf_band(len(ranks), probability), ecdf(ranks)
    x = np.concatenate([[0.0], band.points, [1.0]])

    def padded(curve: np.ndarray) -> np.ndarray:
        return np.concatenate([[0.0], curve - band.points, [0.0]])

    out = (share < band.lower - 1e-12) | (share > band.upper + 1e-12)
    axes.fill_between(x, padded(band.lower), padded(band.upper), color=MISSING, alpha=0.45, linewidth=0)
    axes.plot([0, 1], [0, 0], color=INK, linewidth=0.6)
    axes.plot(x, padded(share), color=MODEL, linewidth=1.5)
    axes.plot(band.points[out], (share - band.points)[out], "o", color=OUTSIDE, markersize=3)
    reach = 1.25 * max(np.abs(padded(band.lower)).max(), np.abs(padded(band.upper)).max(), np.abs(padded(share)).max())
    axes.set_xlim(0, 1)
    axes.set_ylim(-reach, reach)
    axes.xaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.yaxis.set_major_formatter(SHARES)
    return dress(axes, x="rank of the truth among draws", y="share of ranks\nless uniform share", title=what)


def rank_ecdfs(panels: Iterable[Axes], calibration: Calibration, *, probability: float = 0.95) -> list[Axes]:
    """One panel a quantity, each with its coverage; the band of `probability` is for one quantity alone.

    Args:
        panels: Axes to draw on, at least one a quantity; those left over are hidden.
        calibration: what `probseq.diagnostics.calibrate` found.
        probability: of the bands.
    """
    drawn, spare = [], list(panels)
    for name, share in calibration.table["coverage"].items():
        axes = spare.pop(0)
        rank_ecdf(axes, calibration.ranks[str(name)].to_numpy(), probability=probability, what=str(name))
        axes.text(0.98, 0.03, f"90% intervals hold {share:.1%}", transform=axes.transAxes, ha="right", size=8)
        drawn.append(axes)
    for axes in drawn[1:]:
        axes.set_ylabel("")
    for axes in spare:
        axes.set_visible(False)
    return drawn
