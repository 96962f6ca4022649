"""Profile likelihood of one parameter: the highest log-likelihood at each of its values.

The interval holds the values whose profile is within half a quantile of chi squared (1) of the maximum (Venzon &
Moolgavkar 1988). It needs no quadratic log-likelihood, does not depend on coordinates, and may end at the edge of the
range, where a standard error means nothing; then the end is open.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.diagnostics.estimates import OFF_PEAK, Estimate, derivatives, estimate, flat_entries, jacobian_of
from probseq.diagnostics.ranges import Range, normal_quantile
from probseq.diagnostics.standard_errors import check_level, errors_of
from probseq.errors import FitError, ModelError
from probseq.families.coordinates import is_simplex
from probseq.inference.fit import Fit
from probseq.sequences import Sequences

FAR = 18.0
"""Log odds, or logarithm against the estimate: an end further out is the edge of the range."""

WIDE = 30.0
"""Standard errors, on the whole line: an end further out is none."""

EDGE = 7.0
"""Where the search for the inner end begins, at the scale of the edge: a probability of 0.001."""

START = 1e-3
"""What the other probabilities of a row start from, where one of them was all there is."""

LEAST_CURVATURE = 1e-2
"""Of a direction, in the coordinates of the search from an edge."""

BEYOND = 1e10
"""Nats lost where the parameters have no likelihood; the line search backs away."""

BETWEEN = 11
"""Values of the curve besides those that the search for the ends tried."""

MOST_STEPS = 60
"""Values tried on one side."""


@dataclass(frozen=True, eq=False)
class Profile:
    """The profile of one parameter.

    Args:
        name: such as "transition[0, 1]".
        estimate: where the maximum is.
        lower, upper: ends of the interval; the edge of the range where an end is open.
        lower_open, upper_open: the profile never falls so low on that side.
        level: of the interval.
        drop: nats below the maximum where it ends.
        objective: what is at its maximum: "log-likelihood" or "log posterior".
        highest: nats, the maximum.
        values: (V,) ascending, where the profile was computed.
        profile: (V,) nats.
    """

    name: str
    estimate: float
    lower: float
    upper: float
    lower_open: bool
    upper_open: bool
    level: float
    drop: float
    objective: str
    highest: float
    values: Tensor
    profile: Tensor

    @property
    def curve(self) -> pd.DataFrame:
        """The curve: `value`, `profile` in nats, and `drop`, nats below the maximum."""
        height = self.profile.numpy()
        return pd.DataFrame({"value": self.values.numpy(), "profile": height, "drop": self.highest - height})


def profile(fit: Fit, name: str, series: Sequences | None = None, *, level: float = 0.95) -> Profile:
    """The profile of one parameter's entry, and its interval.

    At every value the others are found anew, by sequential quadratic programming with exact gradients from the values
    at the last one; the ends by root finding on the signed root of the drop, which is nearly a straight line.

    Args:
        fit: at a maximum, of `em`.
        name: the entry, as `standard_errors` names it: "rate[0]", "transition[0, 1]".
        series: the data; the fit remembers it while it is in memory.
        level: of the interval.

    Warns where the likelihood is higher at another value than at the fit.

    Raises:
        FitError: no such entry, or one that the model fixes.

    >>> from probseq import HMM, datasets, em, families
    >>> found = profile(em(HMM(2, families.Poisson()), datasets.earthquakes(), restarts=1), "rate[0]")
    >>> round(found.lower, 2), round(found.upper, 2)
    (13.17, 16.73)
    """
    found, information = estimate(fit, series)
    if name not in found.names:
        raise FitError(f"A parameter to profile must be one of {', '.join(found.names)}, got {name!r}.")
    number = found.names.index(name)
    if found.notes[number] in ("fixed", "zero"):
        raise FitError(f"A parameter to profile must be free to move, got {name}, which is {found.notes[number]}.")
    trace = _trace(fit, found, information, number, check_level(level))
    ends = [trace.end(-1), trace.end(1)]
    trace.fill()
    trace.require_highest()
    curve = sorted(trace.seen.items())
    natural = trace.range.natural(torch.tensor([scaled for scaled, _ in curve], dtype=torch.float64))
    edges = [float(trace.range.low), float(trace.range.high)]
    return Profile(
        name=name,
        estimate=float(flat_entries(found.parameters, found.declared)[number]),
        lower=edges[0] if ends[0] is None else ends[0],
        upper=edges[1] if ends[1] is None else ends[1],
        lower_open=ends[0] is None,
        upper_open=ends[1] is None,
        level=level,
        drop=0.5 * trace.root**2,
        objective=found.objective_name,
        highest=trace.highest,
        values=natural,
        profile=torch.tensor([trace.highest - drop for _, (drop, _) in curve], dtype=torch.float64),
    )


@dataclass(frozen=True, eq=False)
class _Trace:
    """The profile along one entry, in coordinates w in which the objective is about highest - |w|^2 / 2.

    Args:
        found: where it starts; its entry is inside the range.
        number: of the entry.
        range: of the entry, (1,).
        map: (p, p) from w to the coordinates.
        highest: nats at the maximum.
        root: of twice the drop at the ends of the interval.
        middle: the scaled entry at the maximum; -inf or inf at an edge.
        error: its standard error on that scale.
        seen: scaled value -> drop in nats, and the w that attains it.
    """

    found: Estimate
    number: int
    range: Range
    map: Tensor
    highest: float
    root: float
    middle: float
    error: float
    seen: dict[float, tuple[float, np.ndarray]]

    def end(self, side: int) -> float | None:
        """Where the profile has dropped enough on one side, on the parameter's own scale; None if nowhere."""
        if math.isinf(self.middle) and self.middle * side > 0:
            return None
        inside, last = self.middle, self._limit(side)
        outside = self.middle + side * self.root * self.error
        if math.isinf(self.middle):
            inside, outside = -side * FAR, -side * EDGE
        for _ in range(MOST_STEPS):
            outside = side * min(side * outside, side * last)
            if self._signed(outside) >= 0.0:
                return self._cross(inside, outside)
            if outside == last:
                return None
            inside, outside = outside, outside + side * (1.0 if math.isinf(self.middle) else 0.5 * self.error)
        return None

    def fill(self) -> None:
        """Values in between, so that the curve can be drawn."""
        low, high = min(self.seen), max(self.seen)
        for share in np.linspace(0.0, 1.0, BETWEEN + 2)[1:-1].tolist():
            self._drop(low + share * (high - low))

    def require_highest(self) -> None:
        """Warn where the refits found more than the fit; the interval is then about a lower maximum."""
        best = min(self.seen, key=lambda scaled: self.seen[scaled][0])
        gain = -self.seen[best][0]
        if gain > OFF_PEAK:
            name = self.found.names[self.number]
            value = float(self.range.natural(torch.tensor([best], dtype=torch.float64)))
            warnings.warn(
                f"A profile must begin at the highest {self.found.objective_name}, got {gain:.3g} nats more at "
                f"{name} = {value:.6g} than at the fit; fit again from more starts, or from there.",
                stacklevel=3,
            )

    def _limit(self, side: int) -> float:
        bounded = math.isfinite(float(self.range.low)), math.isfinite(float(self.range.high))
        if all(bounded):
            return side * FAR
        centre = self.middle if math.isfinite(self.middle) else 0.0
        return centre + side * (FAR if any(bounded) else WIDE * self.error)

    def _cross(self, inside: float, outside: float) -> float:
        from scipy.optimize import brentq

        def signed(scaled: float) -> float:
            at_middle = scaled == self.middle or (math.isinf(self.middle) and abs(scaled) == FAR)
            return -self.root if at_middle else self._signed(scaled)

        scaled: Any = brentq(signed, inside, outside, xtol=1e-7 * max(1.0, abs(outside - inside)))
        return float(self.range.natural(torch.tensor([scaled], dtype=torch.float64)))

    def _signed(self, scaled: float) -> float:
        """Root of twice the drop at a value, less that of the ends."""
        return math.sqrt(2.0 * max(self._drop(scaled), 0.0)) - self.root

    def _drop(self, scaled: float) -> float:
        """Nats below the maximum at a value of the entry, all others at their best."""
        if scaled not in self.seen:
            nearest = min(self.seen, key=lambda other: abs(other - scaled), default=None)
            start = np.zeros(len(self.map)) if nearest is None else self.seen[nearest][1]
            self.seen[scaled] = self._best(scaled, start)
        return self.seen[scaled][0]

    def _best(self, scaled: float, start: np.ndarray) -> tuple[float, np.ndarray]:
        """The least drop where the scaled entry has a value, and where that is."""
        from scipy.optimize import minimize

        rule = {"type": "eq", "fun": lambda w: self._entry(w)[0] - scaled, "jac": lambda w: self._entry(w)[1]}
        options = {"ftol": 1e-12, "maxiter": 300}
        found = minimize(self._loss, start, jac=True, method="SLSQP", constraints=[rule], options=options)
        if abs(self._entry(found.x)[0] - scaled) > 1e-6 * (1.0 + abs(scaled)) or not math.isfinite(found.fun):
            value = float(self.range.natural(torch.tensor([scaled], dtype=torch.float64)))
            raise FitError(
                f"The profile of {self.found.names[self.number]} must have a maximum at every value, got none at "
                f"{value:.6g}: {found.message}; take a lower level, or bootstrap."
            )
        return float(found.fun), found.x

    def _point(self, w: np.ndarray) -> tuple[Tensor, Tensor]:
        """w with a graph, and the coordinates there."""
        leaf = torch.from_numpy(np.asarray(w, dtype=np.float64).copy()).requires_grad_()
        return leaf, self.found.start + self.map @ leaf

    def _loss(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            with torch.enable_grad():
                leaf, u = self._point(w)
                value = self.highest - self.found.objective(u)
                (slope,) = torch.autograd.grad(value, leaf)
        except (ModelError, ValueError):
            return BEYOND, np.zeros_like(w)
        if not (bool(torch.isfinite(value)) and bool(torch.isfinite(slope).all())):
            return BEYOND, np.zeros_like(w)
        return float(value.detach()), slope.numpy()

    def _entry(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.enable_grad():
            leaf, u = self._point(w)
            value = self.range.scaled(self.found.entries(u)[self.number].reshape(1)).squeeze(0)
            (slope,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), slope.numpy()


def _trace(fit: Fit, found: Estimate, information: Tensor, number: int, level: float) -> _Trace:
    """Where the profile of one entry starts from."""
    with torch.no_grad():
        highest = float(found.objective(found.start))
    entries = flat_entries(found.parameters, found.declared)
    one = errors_of(found, torch.linalg.inv(information), "").range.at(number)
    root = normal_quantile(level)
    if not found.notes[number]:
        factor = torch.linalg.inv(torch.linalg.cholesky(information)).mT
        middle = float(one.scaled(entries[number].reshape(1)))
        slope = jacobian_of(lambda u: one.scaled(found.entries(u)[number].reshape(1)), found.start)
        error = float((slope @ factor).norm())
        seen = {middle: (0.0, np.zeros(len(information)))}
        return _Trace(found, number, one, factor, highest, root, middle, error, seen)
    inner, edge = _off_the_edge(fit, found, number, one)
    _, curvature = derivatives(inner)
    values, vectors = torch.linalg.eigh(curvature)
    factor = vectors * values.abs().clamp_min(LEAST_CURVATURE).rsqrt()
    return _Trace(inner, number, one, factor, highest, root, edge * math.inf, math.nan, {})


def _off_the_edge(fit: Fit, found: Estimate, number: int, one: Range) -> tuple[Estimate, int]:
    """The estimate with one entry brought inside its range, and the side of the edge that it was at."""
    place, parameters = number, dict(found.parameters)
    for name in found.declared:
        value = parameters[name]
        if place >= value.numel():
            place -= value.numel()
            continue
        given = fit.parameters[name]
        scaled = float(one.scaled(given.reshape(-1)[place].reshape(1)))
        edge = 1 if scaled > 0 else -1
        moved = value.clone().reshape(-1)
        moved[place] = float(one.natural(torch.tensor([edge * EDGE], dtype=torch.float64)))
        moved = moved.reshape(value.shape)
        if is_simplex(found.declared[name].constraint):
            moved = torch.where((moved == 0) & (given > 0), START, moved) if edge > 0 else moved
            moved = moved / moved.sum(-1, keepdim=True)
        parameters[name] = moved
        break
    parameters = found.model.complete({name: parameters[name] for name in found.declared})
    coordinates = found.model.coordinates(parameters)
    point = coordinates.pack()
    everything = torch.ones(point.shape, dtype=torch.bool)
    return replace(found, parameters=parameters, coordinates=coordinates, point=point, moving=everything), edge
