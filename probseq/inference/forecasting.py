"""What comes next: exact mixtures over states and draws; of a family with lags, what simulated futures say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.errors import DataError, ModelError
from probseq.inference.simulation import draw_of, simulate_ahead, steps_ahead
from probseq.models.forecast_columns import check_forecast, drawn_columns, forecast_frame
from probseq.models.hmm import HMM
from probseq.sequences import Sequences

BISECTIONS = 200


def forecast(
    model: HMM,
    draws: Mapping[str, Tensor],
    series: Sequences,
    horizon: int,
    quantiles: Sequence[float],
    covariates: Any = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The law of the next `horizon` steps of every sequence as a frame; see `Fit.forecast`."""
    check_forecast(horizon, quantiles)
    _require_covariates(model, covariates)
    longer = series.future(horizon, covariates)
    weights = state_forecast(model, draws, longer, horizon)
    if model.emission.context.lags:
        drawn = simulate_ahead(model, draws, longer, horizon, seed)
        columns = drawn_columns(drawn, model.emission, tuple(series.columns), series.categories, quantiles)
    else:
        columns = _mixtures(model, draws, longer, weights, horizon, quantiles)
    for k in range(model.states):
        columns[f"probability_{k}"] = weights.mean(0)[:, k].numpy()
    return forecast_frame(columns, series, horizon)


def _require_covariates(model: HMM, covariates: Any) -> None:
    wanted = {*model.transition.design.covariates, *model.emission.context.design.covariates}
    if wanted and covariates is None:
        raise DataError(
            f"a forecast must be given what the model depends on at the steps ahead, {', '.join(sorted(wanted))}, got "
            "nothing; pass covariates=, a frame with a row for each step ahead."
        )


def state_forecast(model: HMM, draws: Mapping[str, Tensor], longer: Sequences, horizon: int) -> Tensor:
    """(S, N * horizon, K): p(z_{T+h} = k | x_1:T) for each draw, one sequence after the other.

    The steps ahead are missing, so filtering goes on through them: exact for every chain and design.
    """
    ahead = steps_ahead(longer, horizon)
    count = next(iter(draws.values())).shape[0]
    return torch.stack([model.posterior(draw_of(draws, s), longer).filtered[ahead] for s in range(count)])


def _mixtures(
    model: HMM,
    draws: Mapping[str, Tensor],
    longer: Sequences,
    weights: Tensor,
    horizon: int,
    quantiles: Sequence[float],
) -> dict[str, np.ndarray]:
    """Means and quantiles of the exact mixture over states and draws."""
    emission, context = model.emission_parameters(draws), None
    if model.emission.context:
        rows, index = model.emission.context.design.rows(longer)
        context = rows[torch.from_numpy(index.astype(np.int64))[steps_ahead(longer, horizon)]]
    columns = _means(model, emission, weights, tuple(longer.columns), longer.categories, context)
    if _has_order(model, longer):
        for q in quantiles:
            columns[f"q{q:g}"] = mixture_quantile(model, emission, weights, q, context).numpy()
    return columns


def mixture_quantile(
    model: HMM,
    emission: Mapping[str, Tensor],
    weights: Tensor,
    probability: float,
    context: Tensor | None = None,
) -> Tensor:
    """(H,) smallest x with P(X <= x) >= probability, for the mixture over draws and states.

    Args:
        model: its family must have a cumulative distribution function.
        emission: (S, K, ...) parameters.
        weights: (S, H, K) of the components.
        probability: in (0, 1).
        context: (H, P) design rows beside the observations, or None.
    """
    draws = weights.shape[0]

    def cdf(values: Tensor) -> Tensor:
        rows = values if context is None else torch.cat([values.unsqueeze(1), context], 1)
        return (weights * model.emission.cdf(rows, emission)).sum(-1).sum(0) / draws

    low, high = _bracket(_mean(model, emission, weights, context), cdf, probability)
    if model.emission.discrete:
        low, high = low.floor(), high.ceil()
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        if model.emission.discrete:
            middle = middle.floor()
        enough = cdf(middle) >= probability
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        if bool((high - low <= (1.0 if model.emission.discrete else 1e-12 * high.abs())).all()):
            break
    zero = torch.zeros_like(high)
    atom = (cdf(zero) >= probability) & (cdf(zero - 1e-9) < probability)
    return torch.where(atom, zero, high)


def _mean(model: HMM, emission: Mapping[str, Tensor], weights: Tensor, context: Tensor | None) -> Tensor:
    """(H, *event) mean of the mixture over draws and states."""
    if context is None:
        return model.emission.average(emission, weights)
    draws = weights.shape[0]
    mean = torch.stack([model.emission.mean_beside(draw_of(emission, s), context) for s in range(draws)])
    return torch.einsum("shk,shk...->h...", weights, mean) / draws


def _bracket(middle: Tensor, cdf: Callable[[Tensor], Tensor], probability: float) -> tuple[Tensor, Tensor]:
    """(H,) values with P(X <= low) < probability <= P(X <= high), searched from `middle` (H,)."""
    width = torch.nan_to_num(middle.abs(), nan=1.0, posinf=1.0) + 1.0
    middle = torch.nan_to_num(middle, nan=0.0, posinf=0.0)
    low, high = middle - width, middle + width
    for _ in range(1100):  # doubling reaches every float64
        short, far = cdf(high) < probability, cdf(low) >= probability
        if not bool((short | far).any()):
            return low, high
        width = width * 2.0
        low, high = torch.where(far, low - width, low), torch.where(short, high + width, high)
    raise ModelError(f"A quantile of {probability} must exist, got a distribution without one; check the parameters.")


def _has_order(model: HMM, series: Sequences) -> bool:
    from probseq.families import Categorical

    return series.values.dim() == 1 and not isinstance(model.emission, Categorical)


def _means(
    model: HMM,
    emission: Mapping[str, Tensor],
    weights: Tensor,
    columns: tuple[str, ...],
    categories: tuple[str, ...] | None,
    context: Tensor | None,
) -> dict[str, np.ndarray]:
    """The mean of each column, or the probability of each symbol."""
    from probseq.families import Categorical

    if isinstance(model.emission, Categorical):
        shares = torch.einsum("shk,skm->hm", weights, emission["probabilities"]) / weights.shape[0]
        names = categories or tuple(str(code) for code in range(shares.shape[1]))
        return {f"p({name})": shares[:, code].numpy() for code, name in enumerate(names)}
    mean = _mean(model, emission, weights, context).numpy()
    if mean.ndim == 1:
        return {"mean": mean}
    return {f"mean_{name}": mean[:, column] for column, name in enumerate(columns)}
