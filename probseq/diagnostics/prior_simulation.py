"""One draw of the parameters from a model's own prior, and data drawn with them along a template series."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from pyro import poutine

from probseq.chains.marginalization import latent_names
from probseq.chains.state_sequence import StateSequence
from probseq.errors import DataError, ModelError
from probseq.inference.simulation import simulate
from probseq.models.hmm import HMM, Parameters
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences


def simulate_from_prior(model: HMM | ProgramModel, series: Sequences, seed: int) -> tuple[Parameters, Sequences]:
    """Parameters from the prior, and a series from the model with them.

    Args:
        model: bound to the series, with its priors.
        series: the template, whose lengths, times, covariates, missing steps and knowledge of states the new one has.
        seed: of the generator.

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
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        if isinstance(model, ProgramModel):
            return _from_program(model, series)
        with poutine.block(), poutine.trace() as trace:
            model.program(series.unlabelled())
        nodes: Any = trace.trace.nodes
        declared = model.all_declared(tuple(series.values.shape[1:]))
        drawn = {name: nodes[name]["value"] for name in declared if name in nodes}
        parameters = model.complete(drawn)
        draws = {name: value.unsqueeze(0) for name, value in parameters.items()}
        found = simulate(model, draws, series.unlabelled(), seed, series.columns, series.categories)
    return parameters, replace(found, observed=series.observed, labels=_known(series, found))


def _known(series: Sequences, found: Sequences) -> torch.Tensor | None:
    """The new series' states at the steps where those of the template are known."""
    if series.labels is None:
        return None
    if series.labels.ndim != 1:
        raise DataError(
            "labels of a template to simulate along must be states, got likelihoods of states; give hard labels."
        )
    return torch.where(series.labels >= 0, found.labels, -1)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _from_program(model: ProgramModel, series: Sequences) -> tuple[Parameters, Sequences]:
    with poutine.block(), poutine.trace() as trace:
        poutine.uncondition(model.program)(series)  # pyright: ignore[reportCallIssue]
    nodes: Any = trace.trace.nodes
    observed = [name for name in latent_names(trace.trace) if nodes[name]["infer"].get("was_observed")]
    shapes = [tuple(nodes[name]["value"].shape) for name in observed]
    if shapes != [tuple(series.values.shape)]:
        raise ModelError(
            f"A program to simulate must have one observed site, shaped {list(series.values.shape)} as the series' "
            f"values, got {dict(zip(observed, map(list, shapes), strict=True))}; give calibrate a `simulate` of your "
            "own."
        )
    values = nodes[observed[0]]["value"].to(series.values.dtype)
    hidden = [name for name in latent_names(trace.trace) if isinstance(nodes[name]["fn"], StateSequence)]
    parameters = [name for name in latent_names(trace.trace) if name not in (*observed, *hidden)]
    return {name: nodes[name]["value"] for name in parameters}, replace(series, values=values)
