"""What a sampler of the parameters' posterior leaves behind besides its draws, and the `Fit` made of both."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from probseq.errors import FitError
from probseq.inference.fit import Fit, fitted
from probseq.inference.simulation import draw_of
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

RHAT = 1.01
"""Chains whose R-hat is above this have not mixed (Vehtari et al. 2021)."""


@dataclass(frozen=True, eq=False)
class Sampling:
    """How a posterior was sampled: draws of a `Fit` are those of all chains, one chain after the other.

    Args:
        chains: how many; S / chains draws each.
        statistics: name -> (chains, draws), each draw's: `lp`, the log joint density of data and parameters in nats,
            states summed out, on the parameters' own scale; and whatever the sampler knows of `energy`, `diverging`,
            `step_size`, `tree_depth`, `n_steps`, `acceptance_rate`, by ArviZ's names.
        warmup: site -> (chains, tune, ...): the draws before, which are no part of the posterior; may be empty.
        warmup_statistics: name -> (chains, tune), as `statistics`.
        relabelled: how the states of each draw were matched with each other; empty where they were not.
    """

    chains: int
    statistics: Mapping[str, Tensor]
    warmup: Mapping[str, Tensor] = field(default_factory=dict)
    warmup_statistics: Mapping[str, Tensor] = field(default_factory=dict)
    relabelled: str = ""


def rank_rhat(chains: Tensor) -> float:
    """Rank-normalised split R-hat (Vehtari et al. 2021) of one number's draws (chains, draws); NaN of a few draws
    and of chains that never move.

    A single chain is taken as two halves, which arviz-stats asks for.
    """
    from arviz_stats.base.array import array_stats

    with np.errstate(divide="ignore", invalid="ignore"):  # chains that never move
        return float(np.asarray(array_stats.rhat(two_or_more(chains.numpy()), chain_axis=0, draw_axis=1)))


def two_or_more(chains: np.ndarray) -> np.ndarray:
    """Draws (chains, draws, ...) as they are, those of a single chain as its two halves."""
    if len(chains) > 1:
        return chains
    half = chains.shape[1] // 2
    return chains[:, : 2 * half].reshape(2, half, *chains.shape[2:])


def sampled_fit(
    model: HMM | ProgramModel,
    series: Sequences,
    method: str,
    draws: Mapping[str, Tensor],
    sampling: Sampling,
    seconds: float,
    interrupted: bool = False,
) -> Fit:
    """A `Fit` of the draws of a sampler; it warns where chains have not mixed or trajectories diverged.

    R-hat is that of the log density, which is the same however states are labelled. The point is the draw of the
    highest density: unlike a mean, it is one model whatever the labels did.

    Args:
        model: bound to the series, with its priors.
        series: the data.
        method: "nuts" or "gibbs".
        draws: site -> (S, ...), one chain after the other.
        sampling: of these draws.
        seconds: wall time.
        interrupted: whether the user stopped it early.
    """
    log_density = sampling.statistics["lp"]
    if not bool(torch.isfinite(log_density).any()):
        raise FitError("A sampler must find draws of finite density, got none; check the priors against the data.")
    point = model.complete(draw_of(draws, int(log_density.reshape(-1).argmax())))
    mixed, reason = _mixed(sampling, bool(model.n_parameters(tuple(series.values.shape[1:]))))
    mixed = mixed and not interrupted
    reason = f"interrupted; {reason}" if interrupted else reason
    if not mixed:
        warnings.warn(f"{method} did not mix: {reason}; draw more, or rethink model and priors.", stacklevel=3)
    return fitted(
        model,
        series,
        parameters=point,
        draws=dict(draws),
        method=method,
        with_priors=True,
        objective=log_density.reshape(-1),
        converged=mixed,
        stop_reason=reason,
        seconds=seconds,
        sampling=sampling,
    )


def _mixed(sampling: Sampling, free: bool) -> tuple[bool, str]:
    """Whether the chains agree, and what says so; chains of a model without anything free cannot disagree."""
    log_density = sampling.statistics["lp"]
    rhat, divergent = rank_rhat(log_density), int(sampling.statistics.get("diverging", torch.zeros(0)).sum())
    size = f"{sampling.chains} chain{'s'[: sampling.chains > 1]} of {log_density.shape[1]} draws"
    if not free:
        return True, f"{size}: no parameter was free"
    if not np.isnan(rhat):
        return rhat < RHAT and divergent == 0, f"{size}: R-hat of the log density {rhat:.3f}, {divergent} divergent"
    still = log_density.numel() > 1 and bool((log_density == log_density[:1, :1]).all())
    why = "the log density never changed" if still else "too few for an R-hat"
    return False, f"{size}: {why}, {divergent} divergent"
