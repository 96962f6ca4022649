"""Where samplers of the parameters' posterior begin: around the best end of a few climbs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from probseq.errors import FitError, ModelError
from probseq.families.coordinates import is_simplex
from probseq.inference.potential import Potential
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

CLIMBS = 4
"""Starts that are climbed from; the highest end is kept."""

ITERATIONS = 100
"""Of each climb."""

DISPERSAL = 1.0
"""By how many standard deviations of the posterior, as the curvature at its mode has it, chains start apart."""

LOOSE = 0.25
"""Least curvature that is believed: where the density is flatter, chains start no further apart."""

STEP = 1e-4
"""Of the differences that curvature is taken from."""


def potential_of(model: HMM | ProgramModel, series: Sequences, seed: int) -> Potential:
    """The log density of the model around its first start."""
    start = model.start(series, 0, seed)
    return Potential(model, series, _inside(model, start, seed) if isinstance(model, HMM) else start)


def highest_point(potential: Potential, seed: int) -> np.ndarray:
    """(P,) coordinates at the end of the best climb.

    Raises:
        FitError: the density is zero at every start.
        ModelError: nothing is free.
    """
    from scipy.optimize import minimize

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = potential(point)
        return -value, -gradient

    if len(potential.coordinates.pack()) == 0:
        raise ModelError("A model to sample must have a free parameter, got none; nothing is left to be learned.")
    found = []
    for attempt in range(CLIMBS):
        point = _start(potential, attempt, seed)
        if not np.isfinite(potential(point)[0]):
            continue
        options = {"maxiter": ITERATIONS}
        found.append(minimize(loss, point, jac=True, method="L-BFGS-B", options=options))
    if not found:
        raise FitError(
            f"A sampler must start where the density is positive, got none in {CLIMBS} starts; check the priors "
            "against the data."
        )
    return min(found, key=lambda end: end.fun).x


def scattered(potential: Potential, centre: np.ndarray, chain: int, seed: int) -> np.ndarray:
    """(P,) the first point of a chain: the mode, moved by noise of the inverse curvature there.

    Chains start about as far apart as the posterior is wide, so that R-hat tells something; nearer, where the density
    would be zero.
    """
    noise = _spread(potential, centre) @ np.random.default_rng([seed, 40, chain]).standard_normal(len(centre))
    for halved in range(10):
        point = centre + DISPERSAL * 0.5**halved * noise
        value, gradient = potential(point)
        if np.isfinite(value) and gradient.any():
            return point
    return centre


def _spread(potential: Potential, centre: np.ndarray) -> np.ndarray:
    """(P, P) a root of the inverse of the curvature, minus the Hessian, by differences of the gradient."""
    steps = STEP * np.eye(len(centre))
    rows = [(potential(centre - step)[1] - potential(centre + step)[1]) / (2.0 * STEP) for step in steps]
    curvature, directions = np.linalg.eigh(0.5 * (np.array(rows) + np.array(rows).T))
    return directions / np.sqrt(np.maximum(curvature, LOOSE))


def _start(potential: Potential, attempt: int, seed: int) -> np.ndarray:
    """Coordinates of one start of the model."""
    start = potential.model.start(potential.series, attempt, seed)
    model = potential.model
    around = _inside(model, start, seed) if isinstance(model, HMM) else start
    point = model.coordinates(around).pack().numpy()
    first = potential.coordinates.pack().numpy()
    return point if len(point) == len(first) else first


def _inside(model: HMM, start: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """A start moved off the edge of its simplexes: a chance of zero would stay zero, which structure alone may say."""
    rows = [name for name, one in model.learned(start).items() if is_simplex(one.constraint)]
    if all(bool((start[name] > 0).all()) for name in rows):
        return dict(start)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        drawn = model.transition.sample(model.states)  # zero where the structure says so
    moved = dict(start)
    for name in rows:
        other = drawn.get(name, torch.full_like(start[name], 1.0 / start[name].shape[-1]))
        moved[name] = 0.99 * start[name] + 0.01 * other
    return model.complete(moved)
