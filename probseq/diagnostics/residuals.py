"""Pseudo-residuals: where each observation lies in the law that the model has for it.

    ordinary   u_t = P(Y_t <= y_t | all other observations of its sequence)
    forecast   u_t = P(Y_t <= y_t | the observations before it)

(Zucchini, MacDonald & Langrock 2016, chapter 6). Of the true model each u_t is uniform and z_t = Phi^-1(u_t) standard
normal, whatever the family; forecast ones are independent of each other too (Rosenblatt 1952). Counts, symbols and a
zero that has a probability of its own give a segment, P(Y_t < y_t) to P(Y_t <= y_t); a uniform number within it makes
the residual uniform again (Dunn & Smyth 1996).

With draws of the parameters, the law of an observation is the average of those under each draw, every draw counting
the same at every step: what the posterior given all data predicts of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtri_exp
from torch import Tensor

from probseq.chains.state_posterior import StatePosterior
from probseq.diagnostics.program_tails import program_tails
from probseq.diagnostics.tails import Tails, family_tails
from probseq.errors import ModelError
from probseq.families.marginals import marginal
from probseq.inference.fit import Fit
from probseq.inference.simulation import draw_of
from probseq.models.emission_step import emission_data, observations
from probseq.models.hmm import HMM
from probseq.sequences import Sequences

QUANTITIES = ("lower", "upper", "mid", "uniform", "normal_lower", "normal_upper", "normal_mid", "normal")
"""Columns of a frame of residuals, for each column of the data."""


def ordinary_residuals(fit: Fit, series: Sequences | None = None, *, seed: int = 0) -> pd.DataFrame:
    """Pseudo-residuals of each observation given all others of its sequence: they show outliers.

    Args:
        fit: of an HMM, or of a program whose observed sites have a cumulative distribution.
        series: the data; None means those that were fitted.
        seed: of the uniform numbers within the segments of counts, symbols and zeros.

    Returns:
        The series with its index and, for each step: `lower` = P(Y < y) and `upper` = P(Y <= y), equal where Y is
        continuous, `mid` between them, `uniform`, and these as normal deviates, `normal_lower`, `normal_upper`,
        `normal_mid` and `normal`. Missing steps have NaN. With several columns, or several observed sites of a program,
        each has its own, `normal_wind` say, by its own law: the other columns of the step count as not seen. Symbols
        are in the order of their codes; angles run from where the family cuts the circle open (`VonMises.start`).

    Raises:
        ModelError: the emissions depend on earlier observations, or have no cumulative distribution.
    """
    return _residuals(fit, fit.data(series), "cavity", seed)


def forecast_residuals(fit: Fit, series: Sequences | None = None, *, seed: int = 0) -> pd.DataFrame:
    """Pseudo-residuals of each observation given those before it: they are independent if the model is right.

    Args:
        fit: of an HMM, or of a program whose observed sites have a cumulative distribution.
        series: the data; None means those that were fitted.
        seed: of the uniform numbers within the segments of counts, symbols and zeros.

    Returns:
        columns as for `ordinary_residuals`; a step without all its lags has NaN as well.
    """
    return _residuals(fit, fit.data(series), "predicted", seed)


def _residuals(fit: Fit, series: Sequences, side: str, seed: int) -> pd.DataFrame:
    found: dict[str, Tails] = {}
    known: dict[str, np.ndarray] = {}
    for number in range(fit.n_draws):
        parameters = draw_of(fit.draws, number) if fit.n_draws > 1 else fit.parameters
        if isinstance(fit.model, HMM):
            parts = _model_tails(fit.model, fit.model.complete(parameters), series, side)
        else:
            parts = program_tails(fit.model, parameters, series, side)
        for name, tails, seen in parts:
            share = tails.scaled(1.0 / fit.n_draws)
            found[name] = found[name].plus(share) if name in found else share
            known[name] = seen
    names, generator, columns = list(found), np.random.default_rng(seed), {}
    for name in names:
        for quantity, values in _quantities(found[name], known[name], generator).items():
            columns[quantity if len(names) == 1 else f"{quantity}_{name}"] = values
    frame = series.to_frame(columns)
    if series.count > 1:
        frame.attrs["sequence"] = series.ids.name or "sequence"
    return frame


def _model_tails(
    model: HMM, parameters: dict[str, Tensor], series: Sequences, side: str
) -> Iterator[tuple[str, Tails, np.ndarray]]:
    """Each column's name, its law at every step, and where it was measured (T,)."""
    if side == "cavity" and model.emission.context.lags:
        raise ModelError(
            f"Ordinary residuals must be of observations that no later one depends on, got {model.emission.name}; use "
            "forecast_residuals."
        )
    data = emission_data(model.emission, series)
    log_weights = state_weights(model.posterior(parameters, series), side, model.states**model.emission.memory)
    index = torch.from_numpy(data.index.astype(np.int64))
    values = observations(model.emission, series).reshape(series.total_steps, -1)
    for column, name in enumerate(series.columns):
        family, own = marginal(model.emission, model.emission_parameters(parameters), column)
        rows = data.rows[:, column].double() if model.emission.event_dim else data.rows.double()
        present = ~rows.isnan() if rows.dim() == 1 else torch.ones(len(rows), dtype=torch.bool)
        if model.emission.event_dim and not bool(present.all()):
            rows = torch.where(present, rows, rows[present][:1] if bool(present.any()) else 0.0)
        seen = data.scored & ~values[:, column].isnan()
        yield name, family_tails(family, rows, own).at(index).mixed(log_weights), seen.numpy()


def state_weights(posterior: StatePosterior, side: str, codes: int) -> Tensor:
    """(T, C) log chances of the state, or of the code of the last states that emissions depend on.

    Args:
        posterior: of one set of parameters.
        side: "cavity", given all other steps, or "predicted", given those before.
        codes: C, of the emissions.
    """
    law: Tensor = getattr(replace(posterior, digit=None), side)
    return law.unflatten(-1, (-1, codes)).sum(-2).log()


def _quantities(law: Tails, seen: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """The columns of one observed column, from its law (T,) at each step."""
    less, equal, more = (part.numpy() for part in (law.less, law.equal, law.more))
    with np.errstate(divide="ignore"):
        share = np.log(generator.random(len(less)))
        rest = np.log1p(-np.exp(share))
    ends = {
        "lower": (less, np.logaddexp(more, equal)),
        "upper": (np.logaddexp(less, equal), more),
        "mid": (np.logaddexp(less, equal - np.log(2)), np.logaddexp(more, equal - np.log(2))),
        "uniform": (np.logaddexp(less, equal + share), np.logaddexp(more, equal + rest)),
    }
    found = {name: np.where(seen, np.exp(below), np.nan) for name, (below, _) in ends.items()}
    for name, (below, above) in ends.items():
        deviate = np.where(below <= above, ndtri_exp(np.minimum(below, 0)), -ndtri_exp(np.minimum(above, 0)))
        found["normal" if name == "uniform" else f"normal_{name}"] = np.where(seen, deviate, np.nan)
    return {name: found[name] for name in QUANTITIES}
