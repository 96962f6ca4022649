"""One draw of the parameters from a model's own prior, and data drawn with them along a template series."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from probseq.errors import DataError, ModelError
from probseq.inference.replication import prior_draws, replicate
from probseq.inference.simulation import draw_of, simulate
from probseq.models.hmm import HMM, Parameters
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences


def simulate_from_prior(model: HMM | ProgramModel, series: Sequences, seed: int) -> tuple[Parameters, Sequences]:
    """Parameters from the prior, and a series from the model with them.

    Args:
        model: bound to the series, with its priors.
        series: the template, whose lengths, times, covariates, missing steps and knowledge of states the new one has.
        seed: of the generators.

    Returns:
        the parameters, site -> tensor, and the series.

    Raises:
        DataError: the template is weighted; a weighted likelihood is no law that data could be drawn from.
        ModelError: a program whose observations are not one site shaped like the series' values.
    """
    if series.weights is not None:
        raise DataError(
            "a template to simulate along must have no weights, got some; leave them out, or repeat its sequences."
        )
    # Two seeds: the noise in the data must know nothing of that in the parameters.
    first, second = (int(part) for part in np.random.default_rng(seed).integers(2**62, size=2))
    draws = prior_draws(model, series, 1, first)
    if isinstance(model, ProgramModel):
        return draw_of(draws, 0), _from_program(model, series, draws, second)
    found = simulate(model, draws, series.unlabelled(), second, series.columns, series.categories)
    return draw_of(draws, 0), replace(found, observed=series.observed, labels=_known(series, found))


def _known(series: Sequences, found: Sequences) -> torch.Tensor | None:
    """The new series' states at the steps where those of the template are known."""
    if series.labels is None:
        return None
    if series.labels.ndim != 1:
        raise DataError(
            "labels of a template to simulate along must be states, got likelihoods of states; give hard labels."
        )
    return torch.where(series.labels >= 0, found.labels, -1)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _from_program(model: ProgramModel, series: Sequences, draws: Parameters, seed: int) -> Sequences:
    sites = replicate(model, draws, series, seed)
    shapes = {name: list(value.shape[1:]) for name, value in sites.items()}
    if list(shapes.values()) != [list(series.values.shape)]:
        raise ModelError(
            f"A program to simulate must have one observed site, shaped {list(series.values.shape)} as the series' "
            f"values, got {shapes}; give calibrate a `simulate` of your own."
        )
    (values,) = sites.values()
    return replace(series, values=values[0].to(series.values.dtype))
