"""Each cell's formula, transcribed to numpy one number at a time step: the oracle of its values."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def under(weights: Weights, prefix: str) -> Weights:
    """The weights of a part, under the names they have in it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def vanilla(cell: Any, weights: Weights, x: Array) -> Array:
    act = np.tanh if cell.activation == "tanh" else lambda z: np.maximum(z, 0)
    w = under(weights, "layer.")
    h, out = np.zeros(cell.hidden_size), []
    for x_t in x:
        h = act(w["weight_ih_l0"] @ x_t + w["bias_ih_l0"] + w["weight_hh_l0"] @ h + w["bias_hh_l0"])
        out.append(h)
    return np.array(out).reshape(len(x), -1)


def lstm(cell: Any, weights: Weights, x: Array) -> Array:
    w = under(weights, "layer.")
    h = c = np.zeros(cell.hidden_size)
    out = []
    for x_t in x:
        z = w["weight_ih_l0"] @ x_t + w["bias_ih_l0"] + w["weight_hh_l0"] @ h + w["bias_hh_l0"]
        i, f, g, o = z.reshape(4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.array(out).reshape(len(x), -1)


def gru(cell: Any, weights: Weights, x: Array) -> Array:
    w = under(weights, "layer.")
    h, out = np.zeros(cell.hidden_size), []
    for x_t in x:
        a_r, a_z, a_n = (w["weight_ih_l0"] @ x_t + w["bias_ih_l0"]).reshape(3, -1)
        b_r, b_z, b_n = (w["weight_hh_l0"] @ h + w["bias_hh_l0"]).reshape(3, -1)
        r, z = sigmoid(a_r + b_r), sigmoid(a_z + b_z)
        h = (1 - z) * np.tanh(a_n + r * b_n) + z * h
        out.append(h)
    return np.array(out).reshape(len(x), -1)


def stacked(cell: Any, weights: Weights, x: Array) -> Array:
    for k, part in enumerate(cell.cells):
        x = transcribed(part, under(weights, f"cells.{k}."), x)
    return x


def bidirectional(layer: Any, weights: Weights, x: Array) -> Array:
    g = transcribed(layer.past, under(weights, "past."), x)
    h = transcribed(layer.future, under(weights, "future."), x[::-1])[::-1]
    return np.concatenate([g, h], axis=1)


FORMULAS: dict[str, Callable[[Any, Weights, Array], Array]] = {
    "vanilla": vanilla,
    "lstm": lstm,
    "gru": gru,
    "stacked": stacked,
    "bidirectional": bidirectional,
}


def transcribed(layer: Any, weights: Weights, x: Array) -> Array:
    """h (L, H) of one sequence x (L, D) from a start of zeros."""
    return FORMULAS[layer.kind](layer, weights, x)
