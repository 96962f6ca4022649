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


def leaky(cell: Any, w: Weights, x: Array) -> Array:
    tau = 1 + np.exp(w["log_excess"]) if cell.learned else w["fixed_tau"]
    h, out = np.zeros(cell.hidden_size), []
    for x_t in x:
        h = (1 - 1 / tau) * h + (1 / tau) * np.tanh(w["weight_xh"] @ x_t + w["weight_hh"] @ h + w["bias"])
        out.append(h)
    return np.array(out).reshape(len(x), -1)


def delayed(cell: Any, w: Weights, x: Array) -> Array:
    out: list[Array] = []
    nothing = np.zeros(cell.hidden_size)
    for t, x_t in enumerate(x):
        z = w["weight_xh"] @ x_t + w["weight_hh"] @ (out[t - 1] if t >= 1 else nothing) + w["bias"]
        for k, delay in enumerate(cell.delays):
            z = z + w[f"delayed_weights.{k}"] @ (out[t - delay] if t >= delay else nothing)
        out.append(np.tanh(z))
    return np.array(out).reshape(len(x), -1)


def deep_transition(cell: Any, w: Weights, x: Array) -> Array:
    h, out = np.zeros(cell.hidden_size), []
    for x_t in x:
        z = w["weight_xh"] @ x_t + w["weight_hh"] @ h + w["bias"]
        for k in range(cell.depth - 1):
            z = w[f"above.{k}.weight"] @ np.tanh(z) + w[f"above.{k}.bias"]
        h = np.tanh(z + w["weight_skip"] @ h) if cell.skip else np.tanh(z)
        out.append(h)
    return np.array(out).reshape(len(x), -1)


def perceptron(w: Weights, x: Array) -> Array:
    for k in range(0, len(w), 2):  # each layer is followed by a tanh without weights
        x = np.tanh(x @ w[f"{k}.weight"].T + w[f"{k}.bias"])
    return x


def feedforward(cell: Any, w: Weights, x: Array) -> Array:
    return perceptron(under(w, "layers."), x)


def deep_output(cell: Any, w: Weights, x: Array) -> Array:
    return perceptron(under(w, "layers."), transcribed(cell.cell, under(w, "cell."), x))


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
    "leaky": leaky,
    "delayed": delayed,
    "deep-transition": deep_transition,
    "feedforward": feedforward,
    "deep-output": deep_output,
    "stacked": stacked,
    "bidirectional": bidirectional,
}


def transcribed(layer: Any, weights: Weights, x: Array) -> Array:
    """h (L, H) of one sequence x (L, D) from a start of zeros."""
    return FORMULAS[layer.kind](layer, weights, x)


def four_directions(layer: Any, w: Weights, image: Array) -> Array:
    """h (4 H, rows, columns) of an image (D, rows, columns), pixel by pixel."""
    steps = [1, -1]
    return np.concatenate(
        [
            one_direction(layer.cell, {name: one[2 * a + b] for name, one in w.items()}, image, down, right)
            for a, down in enumerate(steps)
            for b, right in enumerate(steps)
        ]
    )


def one_direction(cell: str, w: Weights, image: Array, down: int, right: int) -> Array:
    """One sweep; `down` is -1 where it goes up, `right` -1 where it goes left."""
    _, rows, columns = image.shape
    size = w["weight_left"].shape[1]
    h, c = np.zeros((2, size, rows, columns))
    nothing = np.zeros(size)
    for i in range(rows)[::down]:
        for j in range(columns)[::right]:
            left, upper = (i, j - right), (i - down, j)
            h_l, c_l = (h[:, *left], c[:, *left]) if 0 <= left[1] < columns else (nothing, nothing)
            h_u, c_u = (h[:, *upper], c[:, *upper]) if 0 <= upper[0] < rows else (nothing, nothing)
            z = w["weight_x"] @ image[:, i, j] + w["weight_left"] @ h_l + w["weight_upper"] @ h_u + w["bias"]
            if cell == "vanilla":
                h[:, i, j] = np.tanh(z)
            else:
                gate_i, f_l, f_u, o, g = z.reshape(5, -1)
                c[:, i, j] = sigmoid(f_l) * c_l + sigmoid(f_u) * c_u + sigmoid(gate_i) * np.tanh(g)
                h[:, i, j] = sigmoid(o) * np.tanh(c[:, i, j])
    return h
