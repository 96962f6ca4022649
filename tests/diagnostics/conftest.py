"""Draws of a posterior around known parameters, with the states of each draw named anyhow."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from probseq import HMM, Sequences
from probseq.inference import Fit, Sampling
from probseq.models.program import ProgramModel
from probseq.models.renaming import renaming


def concentrated(parameters: dict[str, Tensor], draws: int, spread: float, seed: int = 0) -> dict[str, Tensor]:
    """Draws near given parameters: rows of probabilities by Dirichlet laws, positive numbers by gamma laws."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, value in parameters.items():
        noise = torch.randn((draws, *value.shape), generator=generator, dtype=torch.float64)
        moved = value * (spread * noise).exp()
        found[name] = moved / moved.sum(-1, keepdim=True) if name in ("initial", "transition") else moved
    return found


def made_fit(model: HMM | ProgramModel, series: Sequences, draws: dict[str, Tensor], chains: int = 1) -> Fit:
    """A fit as a sampler would leave it, its point being the first draw."""
    point = {name: value[0] for name, value in draws.items()}
    size = len(next(iter(draws.values())))
    density = torch.zeros(chains, size // chains, dtype=torch.float64)
    return Fit(
        model=model,
        parameters=point,
        draws=draws,
        method="nuts",
        with_priors=True,
        log_likelihood=model.expect(point, series).log_likelihood,
        observations=series.total_steps,
        n_parameters=1,
        objective=density.reshape(-1),
        converged=True,
        stop_reason="made by hand",
        seconds=0.0,
        fingerprint=series.fingerprint(),
        columns=tuple(series.columns),
        categories=series.categories,
        sampling=Sampling(chains, {"lp": density}),
        series=series,
    )


def renamed(fit: Fit, permutations: Tensor) -> Fit:
    """The fit with state k of draw s under the name that row s of (S, K) says."""
    first = {name: value[0] for name, value in fit.draws.items()}
    names = renaming(fit.model, first, fit.data())
    return replace(fit, draws=names.apply_each(fit.draws, permutations))
