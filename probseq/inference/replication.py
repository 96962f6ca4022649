"""New observations along a given series, one set for each draw of the parameters; and draws from the prior.

Draws of the posterior give the posterior predictive distribution, those of the prior the prior predictive one (Gelman
et al. 2013, chapter 6). Every draw has a new path of states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from probseq.chains.marginalization import latent_names
from probseq.chains.state_sequence import StateSequence
from probseq.inference.simulation import design_rows, draw_of, simulate_part
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

BLOCK = 1 << 22
"""Steps of all draws that are simulated at a time."""

OBSERVED = "y"
"""The site of an HMM's observations."""


def replicate(
    model: HMM | ProgramModel, draws: Mapping[str, Tensor], series: Sequences, seed: int
) -> dict[str, Tensor]:
    """Observations along a series, missing steps too, with each draw of the parameters.

    Args:
        model: bound.
        draws: site -> (S, ...).
        series: whose lengths, times and covariates to simulate along.
        seed: of paths and observations.

    Returns:
        observed site -> (S, *its own shape); `y` (S, T, *event) of an HMM.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        if isinstance(model, ProgramModel):
            count = len(next(iter(draws.values())))
            each = [observed_sites(model, series, draw_of(draws, s))[0] for s in range(count)]
            return {name: torch.stack([one[name] for one in each]) for name in each[0]}
        blank = replace(series, observed=None, weights=None, labels=None)
        way = _one_by_one if model.emission.context.lags else _together
        return {OBSERVED: way(model, draws, blank)}


def prior_draws(model: HMM | ProgramModel, series: Sequences, count: int, seed: int) -> dict[str, Tensor]:
    """site -> (count, ...): parameters from the model's own prior.

    Args:
        model: bound, with its priors.
        series: the data, for what a program takes from it.
        count: at least 1.
        seed: of the generator.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        each = [_prior_draw(model, series) for _ in range(count)]
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}


def observed_sites(
    model: ProgramModel, series: Sequences, parameters: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """New values of a program's observed sites, drawn with given parameters, and the sites as Pyro traced them."""
    program = poutine.condition(poutine.uncondition(model.program), dict(parameters))  # pyright: ignore[reportArgumentType]
    with poutine.block(), poutine.trace() as trace:
        program(series)  # pyright: ignore[reportCallIssue]
    nodes: Any = trace.trace.nodes
    sites = {
        name: nodes[name]
        for name in latent_names(trace.trace)
        if nodes[name]["infer"].get("was_observed") and not isinstance(nodes[name]["fn"], StateSequence)
    }
    return {name: site["value"] for name, site in sites.items()}, sites


def _prior_draw(model: HMM | ProgramModel, series: Sequences) -> dict[str, Tensor]:
    unlabelled = series.unlabelled() if isinstance(model, HMM) else series
    program: Any = poutine.uncondition(model.program) if isinstance(model, ProgramModel) else model.program
    with poutine.block(), poutine.trace() as trace:
        program(unlabelled)
    nodes: Any = trace.trace.nodes
    if isinstance(model, HMM):
        declared = model.all_declared(tuple(series.values.shape[1:]))
        return model.complete({name: nodes[name]["value"] for name in declared if name in nodes})
    drawn = [name for name in latent_names(trace.trace) if not nodes[name]["infer"].get("was_observed")]
    return {name: nodes[name]["value"] for name in drawn if not isinstance(nodes[name]["fn"], StateSequence)}


def _together(model: HMM, draws: Mapping[str, Tensor], blank: Sequences) -> Tensor:
    """(S, T, *event) a block of draws at a time."""
    count, beside = len(next(iter(draws.values()))), design_rows(model, blank)
    at_once = max(1, BLOCK // blank.total_steps)
    found = []
    for first in range(0, count, at_once):
        some = {name: value[first : first + at_once] for name, value in draws.items()}
        path = model.chain(some, blank).sample()
        emission = {name: value.unsqueeze(1) for name, value in model.emission_parameters(some).items()}
        drawn = model.emission_at(emission, path, beside).sample()
        found.append(drawn.expand(path.shape + drawn.shape[path.dim() :]))
    return torch.cat(found)


def _one_by_one(model: HMM, draws: Mapping[str, Tensor], blank: Sequences) -> Tensor:
    """(S, T, *event) step by step, for observations that depend on earlier ones; equal draws in a row together."""
    parts = [blank] if blank.count == 1 else [blank.take([number]) for number in range(blank.count)]
    count, found, first = len(next(iter(draws.values()))), [], 0
    while first < count:
        one, after = draw_of(draws, first), first + 1
        while after < count and all(torch.equal(value[after], one[name]) for name, value in draws.items()):
            after += 1
        found.append(torch.cat([simulate_part(model, one, part, after - first)[0] for part in parts], 1))
        first = after
    return torch.cat(found)
