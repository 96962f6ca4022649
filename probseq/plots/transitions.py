"""The hidden chain as a picture: states as circles, moves as arrows."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch

from probseq.plots.style import INK, MUTED, names_of, state_colours

RADIUS, BEND = 0.30, 0.18


def transition_diagram(
    axes: Axes,
    transition: np.ndarray,
    *,
    labels: Sequence[str] | None = None,
    least: float = 0.05,
) -> Axes:
    """States as circles, their moves as arrows as wide as they are probable.

    Args:
        axes: to draw on.
        transition: (K, K), transition[i, j] = p(z_{t+1} = j | z_t = i).
        labels: what the states are called, written beside the circles.
        least: moves that make up a smaller share of all departures from their state have no arrow.
    """
    states = len(transition)
    centres = _layout(states)
    colours, names = state_colours(states), names_of(states, labels)
    for i, j in np.argwhere(drawn_moves(transition, least)).tolist():
        _arrow(axes, centres[i], centres[j], float(transition[i, j]), colours[i])
    for k, (centre, name) in enumerate(zip(centres, names, strict=True)):
        _state(axes, centre, k, float(transition[k, k]), colours[k], name if labels is not None else "", centres)
    room = np.array([RADIUS + 0.35, RADIUS + (0.25 if labels is not None else 0.1)])
    (left, low), (right, high) = centres.min(axis=0) - room, centres.max(axis=0) + room
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.axis("off")
    return axes


def drawn_moves(transition: np.ndarray, least: float = 0.05) -> np.ndarray:
    """(K, K) bool: which moves between two states are frequent enough to be drawn."""
    moves = np.where(np.eye(len(transition), dtype=bool), 0.0, transition)
    return (moves > 0) & (moves >= least * moves.sum(axis=1, keepdims=True))


def _layout(states: int) -> np.ndarray:
    """Centres (K, 2): side by side for one or two, on a circle beyond, clockwise from the upper left."""
    if states == 1:
        return np.zeros((1, 2))
    if states == 2:
        return np.array([[-0.95, 0.0], [0.95, 0.0]])
    around = math.pi / 2 + math.pi / states - 2 * math.pi * np.arange(states) / states
    wide = max(1.0, states / 4)
    return np.stack([1.25 * wide * np.cos(around), wide * np.sin(around)], axis=1)


def _arrow(axes: Axes, start: np.ndarray, end: np.ndarray, probability: float, colour: str) -> None:
    """A bent arrow that keeps to the right of the line between two circles, its chance on it."""
    along = (end - start) / np.linalg.norm(end - start)
    right = np.array([along[1], -along[0]])
    tail = start + RADIUS * 1.04 * (0.93 * along - 0.37 * right)
    head = end - RADIUS * 1.10 * (0.93 * along + 0.37 * right)
    arrow = FancyArrowPatch(
        tuple(tail),
        tuple(head),
        connectionstyle=f"arc3,rad={-BEND}",
        arrowstyle="-|>",
        mutation_scale=11 + 6 * probability,
        linewidth=0.8 + 5 * probability,
        color=colour,
        shrinkA=0,
        shrinkB=0,
    )
    axes.add_patch(arrow)
    place = (tail + head) / 2 - right * BEND * float(np.linalg.norm(head - tail)) / 2
    halo = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
    axes.text(
        float(place[0]),
        float(place[1]),
        percent(probability),
        ha="center",
        va="center",
        fontsize=9,
        color=INK,
        bbox=halo,
    )


def _state(
    axes: Axes, centre: np.ndarray, number: int, stay: float, colour: str, name: str, centres: np.ndarray
) -> None:
    """A circle with the state's number and its chance to stay; its name outwards."""
    axes.add_patch(Circle(tuple(centre), RADIUS, facecolor=colour, edgecolor="white", linewidth=1.5, zorder=3))
    text = INK if _luminance(colour) > 0.45 else "white"
    axes.text(
        centre[0],
        centre[1] + 0.07,
        str(number),
        ha="center",
        va="center",
        color=text,
        fontsize=13,
        fontweight="bold",
        zorder=4,
    )
    axes.text(
        centre[0],
        centre[1] - 0.12,
        f"stays {percent(stay)}",
        ha="center",
        va="center",
        color=text,
        fontsize=7,
        zorder=4,
    )
    if name:
        up = 1.0 if centre[1] >= -1e-9 and len(centres) != 2 else -1.0
        axes.text(centre[0], centre[1] + up * (RADIUS + 0.14), name, ha="center", va="center", color=MUTED, fontsize=9)


def percent(probability: float) -> str:
    """A chance in per cent, with the decimals that tell it from 0 and from 100.

    >>> percent(0.4321), percent(0.004), percent(0.9996), percent(1.0)
    ('43%', '0.4%', '99.96%', '100%')
    """
    for digits in range(4):
        shown = f"{100 * probability:.{digits}f}"
        if float(shown) not in (0.0, 100.0) or probability in (0.0, 1.0):
            return f"{shown}%"
    return "<0.001%" if probability < 0.5 else ">99.999%"


def _luminance(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue
