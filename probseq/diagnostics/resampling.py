"""New data for a bootstrap: simulated from the fit, or whole sequences or blocks of the data drawn again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from probseq.errors import FitError, ModelError
from probseq.inference.fit import Fit, as_draws
from probseq.inference.simulation import simulate
from probseq.models.hmm import HMM
from probseq.sequences import Sequences

Redraw = Callable[[Sequences, int], Sequences]
"""(the data, a seed) -> new data."""

Simulate = Callable[[dict[str, Tensor], Sequences, int], Sequences]

MANY = 10
"""Sequences from which resampling them whole says something."""

STAYS = 10.0
"""Mean length of a block, in mean stays of the state that stays longest."""


def simulated(fit: Fit, own: Simulate | None) -> Redraw:
    """Simulation from the fit's point, with the gaps, weights and known labels of the data."""
    point = replace(fit, series=None)
    if own is not None:
        return OwnSimulation(point, own)
    return ModelSimulation(point) if isinstance(fit.model, HMM) else ProgramSimulation(point)


def resampled(fit: Fit, series: Sequences, block: float | None) -> tuple[Redraw, str]:
    """Whole sequences, or blocks; and what they are in words."""
    if block is None and series.count >= MANY:
        return WholeSequences(), "whole sequences"
    mean = default_block(fit, series) if block is None else float(block)
    if not 1.0 <= mean <= series.total_steps:
        raise FitError(
            f"block must lie between 1 step and the length of the series, {series.total_steps}, got {mean:g}; take "
            "several of the longest mean stays."
        )
    return Blocks(mean), f"blocks of {mean:.4g} steps on average"


def default_block(fit: Fit, series: Sequences) -> float:
    """Ten of the longest mean stays of the decoded path, at most a tenth of the series, at least two steps."""
    path, inside = fit.posterior(series).viterbi, series.step_sequence
    begins = torch.ones(len(path), dtype=torch.bool)
    begins[1:] = (path[1:] != path[:-1]) | (inside[1:] != inside[:-1])
    steps, visits = path.bincount(), path[begins].bincount(minlength=int(path.max()) + 1)
    longest = float((steps[visits > 0] / visits[visits > 0]).max())
    return max(2.0, min(STAYS * longest, series.total_steps / 10.0))


@dataclass(frozen=True, eq=False)
class ModelSimulation:
    """From a built model.

    Args:
        fit: its point.
    """

    fit: Fit

    def __call__(self, series: Sequences, seed: int) -> Sequences:
        assert isinstance(self.fit.model, HMM)
        labels = series.labels
        if labels is not None and labels.ndim == 2:
            raise ModelError(
                "Labels of simulated data must be states that are known, got likelihoods of states (soft labels); pass "
                "simulate= with a function that draws them, or use block_bootstrap."
            )
        draws = as_draws(self.fit.parameters)
        drawn = simulate(self.fit.model, draws, series, seed, series.columns, series.categories)
        kept = None if labels is None or drawn.labels is None else torch.where(labels >= 0, drawn.labels, labels)
        values = drawn.values.reshape(series.values.shape)
        return replace(drawn, values=values, observed=series.observed, weights=series.weights, labels=kept)


@dataclass(frozen=True, eq=False)
class OwnSimulation:
    """By a function of the user's.

    Args:
        fit: its point.
        own: (parameters, series, seed) -> new data.
    """

    fit: Fit
    own: Simulate

    def __call__(self, series: Sequences, seed: int) -> Sequences:
        return self.own(self.fit.parameters, series, seed)


@dataclass(frozen=True, eq=False)
class ProgramSimulation:
    """From a user's own program, whose observed sites are the values of the series or its columns.

    Args:
        fit: its point.
    """

    fit: Fit

    def __call__(self, series: Sequences, seed: int) -> Sequences:
        program, parameters = self.fit.model.program, self.fit.parameters
        with torch.random.fork_rng(devices=[]), torch.no_grad(), poutine.block():
            torch.manual_seed(seed)
            as_it_is = poutine.trace(pyro.condition(program, parameters)).get_trace(series)  # pyright: ignore
            free = pyro.condition(poutine.uncondition(program), parameters)  # pyright: ignore
            drawn = poutine.trace(free).get_trace(series)
        values = series.values.clone().reshape(series.total_steps, -1)
        filled = torch.zeros(values.shape[1], dtype=torch.bool)
        new: Any = drawn.nodes
        seen: Any = as_it_is.nodes
        for name, site in seen.items():
            if (
                site["type"] == "sample"
                and site["is_observed"]
                and name not in parameters
                and not site_is_subsample(site)
            ):
                columns = _columns(series, name, site["value"])
                values[:, columns] = new[name]["value"].detach().to(values.dtype).reshape(len(values), -1)
                filled[columns] = True
        if not bool(filled.all()):
            raise ModelError(_UNKNOWN.format("column", series.columns[int(filled.long().argmin())]))
        return replace(series, values=values.reshape(series.values.shape))


_UNKNOWN = (
    "Observed sites of a program to simulate must be the values of the series or columns of it, got another {} {!r}; "
    "pass simulate= with a function of (parameters, series, seed) that returns the new series."
)


def _columns(series: Sequences, name: str, value: Tensor) -> list[int]:
    """Which columns of the series a site observes."""
    own = series.values.double().reshape(series.total_steps, -1)
    seen = torch.ones_like(own, dtype=torch.bool)
    if series.observed is not None:
        seen = series.observed.reshape(series.total_steps, -1).expand(own.shape)
    if value.numel() == own.numel():
        given = value.double().reshape(own.shape)
        if torch.allclose(given[seen], own[seen], rtol=1e-6):
            return list(range(own.shape[1]))
    if value.numel() == len(own):
        given = value.double().reshape(-1)
        for column in range(own.shape[1]):
            if torch.allclose(given[seen[:, column]], own[seen[:, column], column], rtol=1e-6):
                return [column]
    raise ModelError(_UNKNOWN.format("site", name))


@dataclass(frozen=True)
class WholeSequences:
    """As many sequences, drawn with replacement."""

    def __call__(self, series: Sequences, seed: int) -> Sequences:
        return series.take(np.random.default_rng(seed).integers(series.count, size=series.count))


@dataclass(frozen=True)
class Blocks:
    """Blocks that begin at any step, each a sequence of its own; as many steps as the data in all.

    A block that reaches the end of its sequence goes on at the start of the next, the last one's at the first, as a
    block of its own, so that every step is as likely as any other.

    Args:
        mean: of the geometric number of steps of a block.
    """

    mean: float

    def __call__(self, series: Sequences, seed: int) -> Sequences:
        rng, offsets = np.random.default_rng(seed), series.offsets.numpy()
        left, chosen, starts, stops = series.total_steps, [], [], []
        while left > 0:
            start = int(rng.integers(series.total_steps))
            size = min(int(rng.geometric(1.0 / self.mean)), left)
            left -= size
            while size > 0:
                sequence = int(np.searchsorted(offsets, start, side="right")) - 1
                stop = min(start + size, int(offsets[sequence + 1]))
                chosen.append(sequence)
                starts.append(start)
                stops.append(stop)
                size -= stop - start
                start = stop % series.total_steps
        return series.pieces(np.array(chosen), np.array(starts), np.array(stops))
