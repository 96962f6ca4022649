"""New series from fitted parameters: whole ones, and the steps ahead of one that was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from probseq.errors import DataError
from probseq.models.hmm import HMM
from probseq.sequences import Sequences

FUTURES = 2000
"""Simulated futures behind the forecast of a family with lags, shared among the draws of the parameters."""

PATH_STEPS = 1 << 23
"""Steps of sampled paths held at a time."""


def simulate(
    model: HMM,
    draws: Mapping[str, Tensor],
    lengths: int | Sequence[int] | Sequences,
    seed: int,
    columns: tuple[str, ...],
    categories: tuple[str, ...] | None,
) -> Sequences:
    """New series, their true states as labels; see `Fit.simulate`."""
    along = lengths if isinstance(lengths, Sequences) else _blank(lengths, model, categories)
    count = next(iter(draws.values())).shape[0]
    values, states = [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number in range(along.count):
            part = along if along.count == 1 else along.take([number])
            drawn, path = simulate_one(model, draw_of(draws, number % count), part)
            values.append(drawn)
            states.append(path)
    flat = torch.cat(values)
    return replace(
        along,
        values=flat if categories is None else flat.to(torch.uint8 if len(categories) <= 256 else torch.int32),
        observed=None,
        weights=None,
        columns=columns or ("value",),
        labels=torch.cat(states) % model.states,
        categories=categories,
    )


def _blank(lengths: int | Sequence[int], model: HMM, categories: tuple[str, ...] | None) -> Sequences:
    """Steps without anything beside them."""
    sizes = [lengths] if isinstance(lengths, int) else [int(length) for length in lengths]
    if not sizes or min(sizes) < 1:
        raise DataError(f"lengths must be at least 1 each, got {lengths}; give the steps of each sequence.")
    if model.designed:
        raise DataError(
            f"a model that depends on covariates or seasons must be simulated along a series that has them, got the "
            f"lengths {lengths}; give the series itself: fit.simulate(series, seed=...)."
        )
    return Sequences(torch.zeros(sum(sizes)), torch.tensor(sizes))


def simulate_one(model: HMM, parameters: dict[str, Tensor], part: Sequences) -> tuple[Tensor, Tensor]:
    """(T, *event) observations and (T,) values of the chain of one sequence."""
    drawn, path = simulate_part(model, parameters, part, 1)
    return drawn[0], path[0]


def simulate_part(model: HMM, parameters: dict[str, Tensor], part: Sequences, count: int) -> tuple[Tensor, Tensor]:
    """(count, T, *event) observations and (count, T) values of the chain; of one sequence where the family has lags.

    Before its start a sequence with lags stood at the mean of its first state.
    """
    blank = replace(part, observed=None, weights=None, labels=None)
    path = model.chain(parameters, blank).sample(torch.Size([count]))
    emission, size = model.emission_parameters(parameters), part.total_steps
    beside = design_rows(model, blank)
    lags = model.emission.context.lags
    if lags == 0:
        drawn = model.emission_at(emission, path, beside).sample()
        return drawn.expand((count, size, *drawn.shape[2:])), path
    first = model.emission.mean(emission)[path[:, 0] % model.states].nan_to_num(nan=0.0)
    past = first.reshape(count, 1, -1).expand(-1, lags, -1).double()
    drawn = _with_lags(model, emission, path, past, beside)
    return drawn.reshape(count, size, *first.shape[1:]), path


def _with_lags(model: HMM, emission: dict[str, Tensor], codes: Tensor, past: Tensor, beside: Tensor | None) -> Tensor:
    """(n, H, D) observations of n futures, one step after the other.

    Args:
        model: whose family has p lags.
        emission: its parameters.
        codes: (n, H) values of the chain.
        past: (n, p, D) the observations before, the last one first.
        beside: (H, P) design rows, or None.
    """
    steps = []
    for step in range(codes.shape[1]):
        context = past.flatten(1)
        if beside is not None:
            context = torch.cat([context, beside[step].expand(len(context), -1)], 1)
        drawn = model.emission_at(emission, codes[:, step], context).sample().double()
        steps.append(drawn.reshape(len(codes), -1))
        past = torch.cat([steps[-1].unsqueeze(1), past[:, :-1]], 1)
    return torch.stack(steps, 1)


def simulate_ahead(model: HMM, draws: Mapping[str, Tensor], longer: Sequences, horizon: int, seed: int) -> Tensor:
    """(n, N * horizon, *event): futures of a model whose family has lags, one sequence after the other.

    Args:
        model: with lags.
        draws: of the parameters, (S, ...); each has its share of the futures.
        longer: the series with `horizon` missing steps after the end of each sequence.
        horizon: steps ahead.
        seed: of paths and observations.
    """
    count, lags = next(iter(draws.values())).shape[0], model.emission.context.lags
    each = max(1, FUTURES // count)
    columns = longer.values.reshape(longer.total_steps, -1).shape[1]
    futures = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number in range(longer.count):
            part = longer if longer.count == 1 else longer.take([number])
            past = _last_observations(part, horizon, lags)
            beside = design_rows(model, part)
            beside = None if beside is None else beside[-horizon:]
            found = []
            for s in range(count):
                parameters = draw_of(draws, s)
                codes = _future_codes(model, parameters, part, horizon, each)
                emission = model.emission_parameters(parameters)
                found.append(_with_lags(model, emission, codes, past.expand(each, lags, columns), beside))
            futures.append(torch.cat(found))
    drawn = torch.cat(futures, 1)
    return drawn.squeeze(-1) if longer.values.ndim == 1 else drawn


def _future_codes(model: HMM, parameters: dict[str, Tensor], part: Sequences, horizon: int, count: int) -> Tensor:
    """(count, horizon) codes of the steps ahead, out of paths drawn given what was seen."""
    posterior = model.posterior(parameters, part)
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    kept, at_once = [], max(1, PATH_STEPS // part.total_steps)
    for first in range(0, count, at_once):
        paths = posterior.sample(min(at_once, count - first), seed=generator)
        last = paths[:, -(horizon + model.memory - 1) :]
        short = horizon + model.memory - 1 - last.shape[1]  # older than the sequence: its first state
        kept.append(torch.cat([last[:, :1].expand(-1, short), last], 1))
    states = torch.cat(kept)
    older = model.memory - 1
    parts = [states[:, older - back : states.shape[1] - back] * model.states**back for back in range(model.memory)]
    return torch.stack(parts).sum(0)


def _last_observations(part: Sequences, horizon: int, lags: int) -> Tensor:
    """(1, p, D) the last observations before the steps ahead, the last one first."""
    seen = part.total_steps - horizon
    steps = torch.arange(seen - 1, seen - 1 - lags, -1)
    if seen < lags or not bool(part.step_observed[steps].all()):
        raise DataError(
            f"a forecast must know the last {lags} observations, which the model depends on, got a missing one at the "
            f"end of sequence {part.ids[0]!r}; end the series where it was last measured {lags} times in a row."
        )
    return part.values.reshape(part.total_steps, -1)[steps].double().unsqueeze(0)


def steps_ahead(longer: Sequences, horizon: int) -> Tensor:
    """(N * horizon,) the last `horizon` steps of each sequence."""
    return (longer.offsets[1:].unsqueeze(1) - horizon + torch.arange(horizon)).reshape(-1)


def design_rows(model: HMM, series: Sequences) -> Tensor | None:
    """(T, P) design rows beside the observations; None where the family has no design."""
    if not model.emission.context.design:
        return None
    rows, index = model.emission.context.design.rows(series)
    return rows[torch.from_numpy(index.astype(np.int64))]


def draw_of(draws: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """The parameters of one draw."""
    return {name: value[number] for name, value in draws.items()}
