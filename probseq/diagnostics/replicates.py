"""Series like the data, simulated from a fit with all that is not known of its parameters."""

from __future__ import annotations

import numpy as np
import torch

from probseq.errors import ModelError
from probseq.inference.fit import Fit
from probseq.inference.replication import replicate
from probseq.sequences import Sequences


def replicates(fit: Fit, series: Sequences | None = None, *, count: int = 200, seed: int = 0) -> np.ndarray:
    """Series simulated along the data: same lengths, times and covariates, NaN where the data are missing.

    The draws of the parameters are spread evenly over the replicates, so that the spread of these holds that of the
    posterior. An autoregression runs freely from its first state's mean; a program that reads earlier values from the
    series goes on from those observed.

    Args:
        fit: of an HMM, or of a program with one observed site shaped like the series' values.
        series: the data; None means those that were fitted.
        count: how many.
        seed: of the generator.

    Returns:
        (count, T) or (count, T, D).
    """
    series = fit.data(series)
    turns = torch.from_numpy(np.arange(count) * fit.n_draws // count)
    sites = replicate(fit.model, {name: value[turns] for name, value in fit.draws.items()}, series, seed)
    if [tuple(site.shape[1:]) for site in sites.values()] != [tuple(series.values.shape)]:
        shapes = {name: list(site.shape[1:]) for name, site in sites.items()}
        raise ModelError(
            f"A program to replicate must have one observed site, shaped {list(series.values.shape)} as the series' "
            f"values, got {shapes}; use pyro.infer.Predictive with the program and the fit's draws."
        )
    drawn = next(iter(sites.values())).double().numpy()
    return drawn if series.observed is None else np.where(series.observed.numpy(), drawn, np.nan)
