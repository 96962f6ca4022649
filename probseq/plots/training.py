"""How a network's training went."""

import math

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from probseq.inference import NetworkFit
from probseq.plots.style import INK, MODEL, MUTED, dress, legend


def training_curves(axes: Axes, fit: NetworkFit, *, bits: bool = False) -> Axes:
    """Loss against epochs, of training and of validation; the epoch whose weights were kept is ringed.

    The training loss is that of the weights as they were learned, the validation loss of those at the epoch's end.
    Ticks at the top mark epochs before which the learning rate was halved; one that was annealed fell in each.

    Args:
        axes: to draw on.
        fit: with its curves.
        bits: per step, rather than nats.
    """
    curves, unit = fit.curves, math.log(2.0) if bits else 1.0
    epochs = curves["epoch"].to_numpy()
    for name, colour in (("train", MUTED), ("validation", MODEL)):
        if name in curves:
            axes.plot(epochs, curves[name] / unit, color=colour, linewidth=1.4, marker=".", markersize=4, label=name)
    if fit.best_epoch:
        best = float(curves[fit.watched].iloc[fit.best_epoch - 1]) / unit
        ring = {"markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 1.2}
        axes.plot([fit.best_epoch], [best], "o", markersize=12, label=f"kept: {best:.3f}", **ring)
    halved = epochs[curves["learning_rate"].diff().to_numpy() < 0]
    if len(halved) and not fit.options.get("anneal"):
        place = axes.get_xaxis_transform()
        axes.plot(
            halved - 0.5, [1.0] * len(halved), "|", color=MUTED, transform=place, clip_on=False, label="rate halved"
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress(axes, x="epoch", y=f"loss ({'bits' if bits else 'nats'} per step)")
    legend(axes, loc="upper right")
    return axes
