"""The loss over weight space: plateaus, cliffs, and descents that a cliff throws out."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from probseq.plots.style import INK, MODEL, MUTED, dress, legend
from probseq.recurrent.loss_surface import Descent, LossPlane, LossSlice

PATHS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")


def loss_along(axes: Axes, line: LossSlice, *, x: str = "position along the direction", title: str = "") -> Axes:
    """The loss along a line, and on a second, logarithmic axis the norm of its gradient.

    Args:
        axes: to draw on.
        line: as `loss_slice` gives it.
        x: what the positions are.
        title: of the figure.
    """
    axes.plot(line.positions, line.loss, color=MODEL, linewidth=1.8, label="loss")
    dress(axes, x=x, y="loss", title=title)
    other = axes.twinx()
    norm = np.where(line.gradient_norm > 0, line.gradient_norm, np.nan)
    other.plot(line.positions, norm, color=MUTED, linewidth=1.0, linestyle=(0, (4, 2)))
    other.set_yscale("log")
    other.set_ylabel("norm of the gradient (dashed)", color=MUTED)
    other.tick_params(colors=MUTED)
    other.spines["top"].set_visible(False)
    return axes


def loss_contours(
    axes: Axes,
    plane: LossPlane,
    *,
    descents: Mapping[str, Descent] | None = None,
    x: str = "first direction",
    y: str = "second direction",
    title: str = "",
) -> Axes:
    """The loss over two directions in shades, dark where it is high, and descents over it.

    Args:
        axes: to draw on.
        plane: as `loss_plane` gives it.
        descents: by name, over two weights that are the plane's directions; what leaves the plane is cut off.
        x: the first direction.
        y: the second.
        title: of the figure.
    """
    root = np.sqrt(plane.loss.T)
    shades = axes.contourf(plane.first, plane.second, root, levels=24, cmap="Greys")
    bar = axes.figure.colorbar(shades, ax=axes, pad=0.02)
    bar.set_label("square root of the loss", color=INK)
    for (name, one), colour in zip((descents or {}).items(), PATHS, strict=False):
        axes.plot(*one.points.T, "-", color=colour, linewidth=1.0, marker=".", markersize=3.5, label=name)
        axes.plot(*one.points[0], "o", color=INK, markersize=5)
    axes.set_xlim(plane.first[0], plane.first[-1])
    axes.set_ylim(plane.second[0], plane.second[-1])
    dress(axes, x=x, y=y, title=title)
    axes.grid(visible=False)
    if descents:
        axes.legend(fontsize=9, labelcolor=INK, framealpha=0.9)
    return axes


def descent_losses(axes: Axes, descents: Mapping[str, Descent], *, title: str = "") -> Axes:
    """The loss at each step of descents, on a logarithmic axis.

    Args:
        axes: to draw on.
        descents: by name.
        title: of the figure.
    """
    for (name, one), colour in zip(descents.items(), PATHS, strict=False):
        axes.plot(np.arange(len(one.loss)), one.loss, color=colour, linewidth=1.2, label=name)
    axes.set_yscale("log")
    dress(axes, x="step of descent", y="loss", title=title)
    legend(axes)
    return axes
