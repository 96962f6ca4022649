"""The log density of data and parameters as a plain function of unconstrained coordinates, for samplers and Laplace.

    value(u) = log p(data, parameters(u)) + log |d parameters / d u|,   states summed out exactly

A user's program, or an HMM's own, is run once with a `Tape`; thereafter only the arithmetic that depends on u is run,
by numpy where that is quicker. The tape is held against the program itself at several points before it is trusted.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from probseq.chains.tape import NotRecordable, Player, Tape
from probseq.errors import FitError, ModelError
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

TAPES = 8
"""Ways through the computation that are recorded; what goes yet another way is run as it stands."""

CHECKS = 4
"""Points at which a tape is held against the program."""

OUT_OF_RANGE = (ModelError, ValueError, ArithmeticError, torch.linalg.LinAlgError)  # pyright: ignore[reportPrivateImportUsage]
"""What parameters far out may raise; the density there is zero."""

SMALL = 1 << 14
"""Numbers in the largest array up to which numpy is the quicker of the two."""


class Potential:
    """Value and gradient of the log joint density in unconstrained coordinates.

    Args:
        model: bound to the series, with its priors.
        series: the data.
        around: parameters whose zeros among the probabilities are meant to stay.

    Attributes:
        coordinates: between u and the parameters.
        recorded: whether tapes stand for the program.
    """

    def __init__(self, model: HMM | ProgramModel, series: Sequences, around: Mapping[str, Tensor]) -> None:
        self.model, self.series, self.around = model, series, dict(around)
        self.coordinates = model.coordinates(around)
        self.recorded = True
        self._players: list[tuple[Player, bool]] = []
        start = self.coordinates.pack()
        if len(start):
            self._record(start)
            self._check(start)

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Value in nats and gradient (P,) at u (P,); minus infinity and zeros where the model is out of range."""
        try:
            value, gradient = self._played(point) or self._otherwise(torch.from_numpy(np.array(point)))
        except OUT_OF_RANGE:
            return -np.inf, np.zeros(len(point))
        if not (math.isfinite(value) and np.isfinite(gradient).all()):
            return -np.inf, np.zeros(len(point))
        return value, gradient

    def density(self, u: Tensor) -> Tensor:
        """() nats: the same value by the program itself, twice differentiable."""
        parameters, log_jacobian = self.coordinates.unpack_with_jacobian(u)
        return self.model.log_joint(parameters, self.series, True) + log_jacobian

    def log_joint(self, u: Tensor) -> Tensor:
        """() nats: log p(data, parameters) on the parameters' own scale; twice differentiable."""
        return self.model.log_joint(self.coordinates.unpack(u), self.series, True)

    def direct(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Value and gradient by the program itself."""
        u = u.detach().requires_grad_()
        with torch.enable_grad():
            value = self.density(u)
            (gradient,) = torch.autograd.grad(value, u, torch.ones_like(value.detach()))
        return value.detach(), gradient

    def parameters(self, points: Tensor) -> dict[str, Tensor]:
        """site -> (S, ...) at coordinates (S, P), with what the program computes or knows."""
        if isinstance(self.model, ProgramModel):
            return self.coordinates.unpack(points)
        learned = self.coordinates.free.unpack(points)  # pyright: ignore[reportAttributeAccessIssue]
        if len(points) == 0 or (not self.model.fixed and learned.keys() == self.coordinates.unpack(points[0]).keys()):
            return self.model.complete(learned) if len(points) else learned
        each = [self.model.complete({name: value[s] for name, value in learned.items()}) for s in range(len(points))]
        return {name: torch.stack([one[name] for one in each]) for name in each[0]}

    def confirm(self, points: Tensor) -> None:
        """Hold the tapes against the program where a sampler has been, at (S, P).

        Raises:
            FitError: they disagree, so that draws from them are not of the program.
        """
        for point in points if self.recorded else ():
            if not self._agrees(point):
                raise FitError(
                    "A program to sample must be a function of its parameters through torch alone, got another value "
                    "than when it was recorded; take .numpy(), .tolist() and random numbers out, or use pyro_nuts."
                )

    # ---- tapes -----------------------------------------------------------------------------------------------------

    def _played(self, point: np.ndarray) -> tuple[float, np.ndarray] | None:
        """By the first tape that goes the way of this point."""
        for player, by_numpy in self._players:
            if by_numpy:
                with np.errstate(all="ignore"):
                    found: Any = player(point)
            else:
                with torch.no_grad():
                    found = player(torch.from_numpy(np.array(point)))
            if found is not None:
                return float(found[0]), np.asarray(found[1])
        return None

    def _otherwise(self, u: Tensor) -> tuple[float, np.ndarray]:
        """By the program itself, which is recorded on the way where there is room for another tape."""
        if self.recorded and len(self._players) < TAPES:
            return self._record(u)
        with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False):
            value, gradient = self.direct(u)
        return float(value), gradient.numpy()

    def _record(self, u: Tensor) -> tuple[float, np.ndarray]:
        with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False), Tape() as tape:
            value, gradient = self.direct(u)
        try:
            self._players.append(_player(tape, u, [value, gradient]))
        except NotRecordable as problem:
            self._give_up(str(problem))
        return float(value), gradient.numpy()

    def _check(self, start: Tensor) -> None:
        """Hold the tape against the program, near the start and far from it."""
        generator = torch.Generator().manual_seed(0)
        for number in range(CHECKS):
            noise = torch.randn(len(start), generator=generator, dtype=torch.float64)
            point = start + 0.1 * 2.0**number * noise
            if not self._agrees(point):
                self._give_up("its value is not a function of torch's operations alone")
                return

    def _agrees(self, point: Tensor) -> bool:
        """Whether value and gradient of tape and program are the same to rounding, or both of no use."""
        try:
            with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False):
                value, gradient = self.direct(point)
        except OUT_OF_RANGE:
            return True
        if not (bool(torch.isfinite(value)) and bool(torch.isfinite(gradient).all())):
            return True
        found, slope = self(point.numpy())
        near = abs(found - float(value)) <= 1e-9 * (1.0 + abs(float(value)))
        return near and bool(np.abs(slope - gradient.numpy()).max() <= 1e-7 * (1.0 + float(gradient.abs().max())))

    def _give_up(self, why: str) -> None:
        self.recorded, self._players = False, []
        warnings.warn(
            f"The program is run anew for every gradient, because it cannot be recorded: {why}.", stacklevel=4
        )


def _player(tape: Tape, u: Tensor, wanted: list[Tensor]) -> tuple[Player, bool]:
    """The quicker player of a tape that gives back what was recorded, and whether it is by numpy."""
    largest = max((out.numel() for step in tape.steps for out in step.outputs), default=0)
    for make in (tape.cell_player, tape.array_player) if largest <= SMALL else ():
        try:
            player = make(u, wanted)
            with np.errstate(all="ignore"):
                found = player(u.numpy())
            same = found is not None and all(map(_near, found, wanted))
        except (NotRecordable, TypeError, ValueError, AttributeError, IndexError):
            same = False
        if same:
            return player, True
    return tape.player(u, wanted), False


def _near(found: Any, expected: Tensor) -> bool:
    return bool(np.allclose(found, expected.numpy(), rtol=1e-9, atol=1e-9, equal_nan=True))
