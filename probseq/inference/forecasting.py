"""What comes next: exact mixture forecasts and simulation from fitted parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq.errors import DataError, ModelError
from probseq.models.hmm import HMM
from probseq.sequences import Sequences

BISECTIONS = 200


def forecast(
    model: HMM, draws: Mapping[str, Tensor], series: Sequences, horizon: int, quantiles: Sequence[float]
) -> pd.DataFrame:
    """The law of the next `horizon` steps of every sequence as a frame; see `Fit.forecast`."""
    if horizon < 1:
        raise DataError(f"horizon must be at least 1, got {horizon}; ask for one step or more.")
    outside = [q for q in quantiles if not 0.0 < q < 1.0]
    if outside:
        raise DataError(f"quantiles must lie between 0 and 1, got {outside[0]}; give shares such as 0.05.")
    weights = state_forecast(model, draws, series, horizon)
    emission = model.emission_parameters(draws)
    columns: dict[str, np.ndarray] = _means(model, emission, weights, tuple(series.columns), series.categories)
    if _has_order(model, series):
        for q in quantiles:
            columns[f"q{q:g}"] = mixture_quantile(model, emission, weights, q).numpy()
    for k in range(model.states):
        columns[f"probability_{k}"] = weights.mean(0)[:, k].numpy()
    frame = pd.DataFrame(columns, index=series.future_index(horizon))
    if series.count > 1:
        frame.insert(0, series.ids.name or "sequence", np.repeat(series.ids.to_numpy(), horizon))
    return frame


def state_forecast(model: HMM, draws: Mapping[str, Tensor], series: Sequences, horizon: int) -> Tensor:
    """(S, N * horizon, K): p(z_{T+h} = k | x_1:T) for each draw, one sequence after the other."""
    longer = series.future(horizon)
    ahead = (longer.offsets[1:].unsqueeze(1) - horizon + torch.arange(horizon)).reshape(-1)
    count = next(iter(draws.values())).shape[0]
    return torch.stack([model.posterior(_draw(draws, s), longer).filtered[ahead] for s in range(count)])


def mixture_quantile(model: HMM, emission: Mapping[str, Tensor], weights: Tensor, probability: float) -> Tensor:
    """(H,) smallest x with P(X <= x) >= probability, for the mixture over draws and states.

    Args:
        model: its family must have a cumulative distribution function.
        emission: (S, K, ...) parameters.
        weights: (S, H, K) of the components.
        probability: in (0, 1).
    """
    draws = weights.shape[0]

    def cdf(values: Tensor) -> Tensor:
        return (weights * model.emission.cdf(values, emission)).sum(-1).sum(0) / draws

    low, high = _bracket(model, emission, weights, cdf, probability)
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


def _bracket(
    model: HMM, emission: Mapping[str, Tensor], weights: Tensor, cdf: Callable[[Tensor], Tensor], probability: float
) -> tuple[Tensor, Tensor]:
    """(H,) values with P(X <= low) < probability <= P(X <= high)."""
    mean = torch.stack([model.emission.mean(_draw(emission, s)) for s in range(weights.shape[0])])
    middle = (weights * mean.unsqueeze(1)).sum(-1).mean(0)
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


def simulate(
    model: HMM,
    draws: Mapping[str, Tensor],
    lengths: int | Sequence[int],
    seed: int,
    columns: tuple[str, ...],
    categories: tuple[str, ...] | None,
) -> Sequences:
    """New series, their true states as labels; see `Fit.simulate`."""
    sizes = [lengths] if isinstance(lengths, int) else [int(length) for length in lengths]
    if not sizes or min(sizes) < 1:
        raise DataError(f"lengths must be at least 1 each, got {lengths}; give the steps of each sequence.")
    count = next(iter(draws.values())).shape[0]
    values, states = [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number, size in enumerate(sizes):
            parameters = _draw(draws, number % count)
            blank = Sequences(torch.zeros(size), torch.tensor([size]))
            path = model.chain(parameters, blank).sample()
            drawn = model.emission_at(model.emission_parameters(parameters), path).sample()
            values.append(drawn.expand((size, *drawn.shape[1:])))
            states.append(path % model.states)
    flat = torch.cat(values)
    return Sequences(
        values=flat if categories is None else flat.to(torch.uint8),
        lengths=torch.tensor(sizes),
        columns=columns or ("value",),
        labels=torch.cat(states),
        categories=categories,
    )


def _draw(draws: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    return {name: value[number] for name, value in draws.items()}


def _has_order(model: HMM, series: Sequences) -> bool:
    from probseq.families import Categorical

    return series.values.dim() == 1 and not isinstance(model.emission, Categorical)


def _means(
    model: HMM,
    emission: Mapping[str, Tensor],
    weights: Tensor,
    columns: tuple[str, ...],
    categories: tuple[str, ...] | None,
) -> dict[str, np.ndarray]:
    """The mean of each column, or the probability of each symbol."""
    from probseq.families import Categorical

    if isinstance(model.emission, Categorical):
        shares = torch.einsum("shk,skm->hm", weights, emission["probabilities"]) / weights.shape[0]
        names = categories or tuple(str(code) for code in range(shares.shape[1]))
        return {f"p({name})": shares[:, code].numpy() for code, name in enumerate(names)}
    mean = model.emission.average(emission, weights).numpy()
    if mean.ndim == 1:
        return {"mean": mean}
    return {f"mean_{name}": mean[:, column] for column, name in enumerate(columns)}
