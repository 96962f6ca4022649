"""Chains that were run apart, by other seeds, in other processes or on other machines, as one fit."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from probseq.errors import FitError
from probseq.inference.fit import Fit
from probseq.inference.sampling import Sampling, sampled_fit
from probseq.inference.simulation import draw_of
from probseq.sequences import Sequences


def join_chains(fits: Iterable[Fit], series: Sequences | None = None) -> Fit:
    """All chains of several samplings of one model and series, one chain after the other.

    The chains of one call of `nuts` begin near one mode. Those of calls with other seeds begin wherever each of them
    climbed to, so that the R-hat of the whole tells whether they found the same posterior. They may well call its
    states otherwise; relabel the draws (`probseq.diagnostics`) before R-hat, or anything else, is read off a state.

    Args:
        fits: of one method, model and series, with as many draws and as much warm-up in every chain.
        series: the data; None is the one that was fitted.

    Returns:
        A `Fit` with the draws of all; `seconds` is their sum.

    Raises:
        FitError: there are none, or they are not of one posterior or not of one length.
    """
    every = list(fits)
    parts = [fit.sampling for fit in every if fit.sampling is not None]
    if not every or len(parts) < len(every):
        raise FitError(f"Chains to join must be fits of a sampler, got {[fit.method for fit in every]}; use nuts.")
    first, data = every[0], every[0].data(series)
    _require_one([fit.fingerprint for fit in every] + [data.fingerprint()], "series")
    _require_one([fit.method for fit in every], "method")
    shapes = [{name: tuple(value.shape[1:]) for name, value in fit.draws.items()} for fit in every]
    _require_one(shapes, "shape of parameters")
    _require_one([part.statistics["lp"].shape[1] for part in parts], "number of draws")
    _require_one([[one.shape[1] for one in part.warmup.values()] for part in parts], "length of warm-up")
    for fit, part in zip(every, parts, strict=True):
        found, expected = first.model.log_joint(draw_of(fit.draws, 0), data, True), part.statistics["lp"][0, 0]
        if not torch.isclose(found, expected, rtol=1e-6, atol=1e-6):
            raise FitError(
                f"Chains to join must be of one posterior, got a draw of log density {float(expected):.6g} where the "
                f"first fit's model gives {float(found):.6g}; sample one model, with the same priors."
            )
    sampling = Sampling(
        chains=sum(part.chains for part in parts),
        statistics={name: torch.cat([part.statistics[name] for part in parts]) for name in parts[0].statistics},
        warmup={name: torch.cat([part.warmup[name] for part in parts]) for name in parts[0].warmup},
        warmup_statistics={
            name: torch.cat([part.warmup_statistics[name] for part in parts]) for name in parts[0].warmup_statistics
        },
    )
    draws = {name: torch.cat([fit.draws[name] for fit in every]) for name in first.draws}
    seconds = sum(fit.seconds for fit in every)
    interrupted = any(fit.stop_reason.startswith("interrupted") for fit in every)
    return sampled_fit(first.model, data, first.method, draws, sampling, seconds, interrupted)


def _require_one(found: list, what: str) -> None:
    """Refuse more than one of what all chains must share."""
    if any(one != found[0] for one in found):
        seen = [one for place, one in enumerate(found) if one not in found[:place]]
        raise FitError(f"Chains to join must share one {what}, got {seen}; sample all of them alike.")
