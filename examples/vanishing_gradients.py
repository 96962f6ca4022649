"""Why do the gradients of a recurrent network vanish or explode, and what helps?

Back through k steps a gradient is multiplied by k Jacobians. Products have logarithms that drift and spread linearly,
so that gradients shrink or grow exponentially: near rest at the log of the spectral radius of the recurrent weights.
Delays and leaks divide that exponent, gates learn it, and where gradients explode clipping keeps descent in place.
"""

import os

import numpy as np
import torch

from probseq import plots, recurrent
from probseq.recurrent import GRU, LSTM, Cell, Delayed, Leaky, Vanilla, fit_decay, gradient_norms

QUICK = bool(os.environ.get("PROBSEQ_QUICK"))
SPANS, H, RADIUS = 50 if QUICK else 100, 16, 0.8
REST = torch.zeros(1, SPANS * (2 if QUICK else 4), 2, dtype=torch.float64)
NOISE = torch.randn(8, SPANS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def scaled(cell: Cell, radius: float) -> Cell:
    """The cell in float64, its recurrent matrices scaled to a spectral radius, its biases zero."""
    cell.double()
    with torch.no_grad():
        for name, weight in cell.named_parameters():
            if "bias" in name:
                weight.zero_()
            elif weight.shape[-1] == cell.hidden_size:
                weight *= radius / torch.linalg.eigvals(weight).abs().max()
    return cell


def products() -> None:
    """Vectors under random matrices: the log of their length drifts and spreads linearly."""
    figure, (left, right) = plots.figure(10, 3.4, columns=2)
    found = {}
    for size in (1, 4, 16):
        draws = recurrent.gaussian_matrices(size, SPANS, 200 if QUICK else 1000, size**-0.5, seed=size)
        logs = recurrent.log_lengths(draws, torch.ones(size, dtype=torch.float64))
        found[f"{size} by {size}"] = one = recurrent.growth(logs)
        theory = recurrent.gaussian_exponents(size, size**-0.5)[0]
        print(f"  {size:2} by {size:2}: drift {one.drift:.4f} (theory {theory:.4f})", end=", ")
        print(f"variance per factor {one.spread:.4f} (theory {recurrent.gaussian_spread(size):.4f})")
        if size == 4:
            plots.product_paths(left, logs[:100].numpy(), theory, title="a hundred products of 4 by 4 matrices")
    spreads = {name: recurrent.gaussian_spread(int(name.split()[0])) for name in found}
    plots.product_growth(right, found, spreads, title="theory dashed")
    figure.savefig("products.png")


def radii() -> None:
    """The slope of the log gradient norm against the log of the spectral radius, near rest."""
    figure, (left, right) = plots.figure(10, 3.6, columns=2)
    norms, theory, fitted = {}, [], []
    for radius in (0.5, 0.7, 0.9, 1.0, 1.1):
        cell = scaled(Vanilla(2, H, seed=1), radius)
        norms[f"radius {radius}"] = values = gradient_norms(cell, REST, lambda h: h.sum(1))
        theory.append(np.log(radius))
        fitted.append(fit_decay(values, first=SPANS).exponent)
        print(f"  radius {radius}: slope {fitted[-1]:.4f}, log radius {theory[-1]:.4f}")
    plots.gradient_spans(left, {name: values[:SPANS] for name, values in norms.items()}, title="vanilla, at rest")
    plots.exponent_agreement(right, np.array(theory), np.array(fitted))
    figure.savefig("radii.png")


def cells() -> None:
    """What helps: delays divide the exponent by D, leaks by about tau; gates start where told. Late spans near rest."""
    figure, (left, right) = plots.figure(11, 3.8, columns=2)
    delayed = scaled(Delayed(2, H, delays=[5], seed=1), RADIUS)
    delayed.get_parameter("weight_hh").data.zero_()
    chosen = {
        f"vanilla, radius {RADIUS}": scaled(Vanilla(2, H, seed=1), RADIUS),
        "delay 5": delayed,
        "leaky, tau 10": scaled(Leaky(2, H, tau=10.0, seed=1), RADIUS),
        "GRU": GRU(2, H, seed=1).double(),
        "LSTM": LSTM(2, H, seed=1).double(),
        "LSTM, lags to 100": LSTM(2, H, longest_lag=100.0, seed=1).double(),
    }
    norms = {name: gradient_norms(cell, REST, lambda h: h.sum(1)) for name, cell in chosen.items()}
    for name, cell in chosen.items():
        slope, theory = fit_decay(norms[name], first=SPANS).exponent, recurrent.resting_exponent(cell)
        print(f"  {name}: slope {slope:.4f}, log radius at rest {theory:.4f}")
    plots.gradient_spans(left, {name: values[:SPANS] for name, values in norms.items()}, title="at rest")
    logs = recurrent.log_singular_values(recurrent.step_jacobians(chosen["LSTM, lags to 100"], NOISE))[0]
    plots.singular_spectrum(right, logs.numpy(), title="LSTM, lags to 100, under noise")
    figure.savefig("cells.png")


def cliff() -> None:
    """One unit over eight steps: a plateau, a wall, and descent with and without clipping."""
    surface, start = recurrent.one_unit_loss(8), torch.tensor([2.5, 0.2], dtype=torch.float64)
    origin, (w, b) = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    steps = np.linspace(0, 1, 24 if QUICK else 80)
    plane = recurrent.loss_plane(surface, origin, (w, b), 1.2 + 1.8 * steps, 1.4 * steps - 0.9)
    line = recurrent.loss_slice(surface, 2 * w, b, 1.4 * np.linspace(0, 1, 300) - 0.9)
    plain, clipped = (recurrent.descend(surface, start, 0.1, 800, clip) for clip in (None, 0.02))
    paths = {"as it comes": plain, "norm clipped to 0.02": clipped}
    figure, (left, middle, right) = plots.figure(14, 3.8, columns=3)
    plots.loss_along(left, line, x="b at w = 2", title="h = tanh(w h + b), 8 steps")
    plots.loss_contours(middle, plane, descents=paths, x="w", y="b")
    plots.descent_losses(right, paths)
    figure.savefig("cliff.png")
    for name, path in paths.items():
        longest = np.linalg.norm(np.diff(path.points, axis=0), axis=1).max()
        print(f"  {name}: longest step {longest:.3f}, loss {np.median(path.loss[-100:]):.4f} at last")


if __name__ == "__main__":
    for part in (products, radii, cells, cliff):
        print(f"{part.__doc__}")
        part()
