"""A recurrent model running freely: new sequences, and the steps that follow what was seen."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from probseq.errors import DataError, ModelError
from probseq.models.forecast_columns import check_forecast, drawn_columns, forecast_frame
from probseq.models.network import answering
from probseq.models.recurrent_inputs import blank_series, encode_series
from probseq.recurrent import Cell, State
from probseq.sequences import Sequences

if TYPE_CHECKING:
    from probseq.models.recurrent_model import RecurrentModel

FUTURES = 2000
"""Simulated futures behind a forecast."""

AT_ONCE = 1 << 16
"""Futures that run at a time, of all sequences."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What came of a free run.

    Args:
        values: (T, *event) float64, one sequence after the other.
        lengths: (N,).
        log_prob: (N,) nats, of each as it was drawn: of its values, of its end or length.
    """

    values: Tensor
    lengths: Tensor
    log_prob: Tensor


def simulate(
    model: RecurrentModel,
    lengths: int | Sequence[int] | Sequences | None,
    seed: int,
    count: int | None,
    vectors: Any,
    past: Sequences | None,
    longest: int,
) -> Sequences:
    """New sequences; see `RecurrentModel.simulate`."""
    with answering(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if lengths is None:
            drawn, along = stop_by_itself(model, count, vectors, past, longest), None
        else:
            if count is not None or vectors is not None:
                raise ModelError(
                    "count and vectors must be left out where lengths are given, got both; give a series with the "
                    "vector as its covariates instead."
                )
            along = lengths if isinstance(lengths, Sequences) else blank_series(model, lengths)
            drawn = run_along(model, along, _after(model, past, along.count))
    return _as_series(model, drawn, along)


def complete(
    model: RecurrentModel, begun: Sequences, length: int | None, seed: int, vectors: Any = None, longest: int = 10_000
) -> Sequences:
    """Sequences that begin with those given, and go on freely.

    Args:
        model: without covariates.
        begun: how each begins.
        length: steps that follow; None lets each stop by itself, at once it may be.
        seed: of the generator.
        vectors: (N, V) v of each.
        longest: steps after which an end is no longer waited for.
    """
    with_vector = begun
    if model.vector.names:
        rows = _vectors(model, begun.count, vectors, None)[begun.step_sequence]
        with_vector = replace(begun, covariates=rows, covariate_names=model.vector.names)
    with answering(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if length is None:
            drawn = stop_by_itself(model, begun.count, vectors, with_vector, longest)
        else:
            rows = _vectors(model, begun.count, vectors, None)
            along = blank_series(model, [length] * begun.count, torch.repeat_interleave(rows, length, 0))
            drawn = run_along(model, along, _after(model, with_vector, begun.count))
    known, new = begun.values.double().split(begun.lengths.tolist()), drawn.values.split(drawn.lengths.tolist())
    whole = torch.cat([part for pair in zip(known, new, strict=True) for part in pair])
    return _as_series(model, Drawn(whole, begun.lengths + drawn.lengths, drawn.log_prob), None)


def run_along(model: RecurrentModel, along: Sequences, begun: tuple[State, Tensor] | None = None) -> Drawn:
    """Draw y at each step of a series, whose own y are not looked at.

    Args:
        model: as it is, under torch's current random numbers.
        along: N sequences, with the covariates that the model has.
        begun: the state before its first step and the encoded y before it; None at the start.
    """
    examples = encode_series(model, replace(along, observed=None, weights=None), ends=False)
    fixed = model.fixed_inputs(examples)
    log_length = examples.by_sequence(examples.steps["length_log_prob"]) if model.length_law else 0.0
    if model.feedback != "observed":  # no draw has a bearing on another
        law = model.head.distribution(model.hidden(examples, None if begun is None else begun[0])[0])
        values = _whole(law.sample(), model, examples.shape.values.shape)
        logs = examples.by_sequence(law.log_prob(values).double())
        return Drawn(values, along.lengths, logs + log_length)
    state, previous = begun or (model.start(examples), model.reader.absent(along.count))
    padded, kept, total = examples.padded(fixed), [], torch.zeros(along.count, dtype=torch.float64)
    for t in range(padded.shape[1]):
        hidden, state = _step(model, previous, padded[:, t], state)
        values, logs, previous = _draw(model, hidden)
        total = total + torch.where(along.lengths > t, logs, 0.0)
        kept.append(values)
    return Drawn(examples.flat(torch.stack(kept, 1)), along.lengths, total + log_length)


def stop_by_itself(
    model: RecurrentModel, count: int | None, vectors: Any, past: Sequences | None, longest: int
) -> Drawn:
    """Draw sequences with their lengths."""
    rows = _vectors(model, count, vectors, past)
    if model.length_law is not None:
        _after(model, past, len(rows))
        lengths = model.length_law.sample(len(rows))
        blank = blank_series(model, lengths.tolist(), torch.repeat_interleave(rows, lengths, 0))
        return run_along(model, blank)
    if model.stop is None:
        raise ModelError(
            "lengths must be given to a model without an end, got None; give them, or make the model with "
            "stopping='end' or a LengthLaw."
        )
    first = encode_series(model, blank_series(model, [1] * len(rows), rows), ends=False)
    begun = _after(model, past, len(rows)) or (model.start(first), model.reader.absent(len(rows)))
    return _until_the_end(model, model.fixed_inputs(first), begun, past is None, longest)


def _until_the_end(
    model: RecurrentModel, fixed: Tensor, begun: tuple[State, Tensor], from_start: bool, longest: int
) -> Drawn:
    """Draw until each sequence has had its end symbol.

    Args:
        model: with an end symbol.
        fixed: (N, ...) what enters at every step besides.
        begun: the state and the encoded y before the first step.
        from_start: whether the first step is that of the sequence, where there is no end.
        longest: steps after which to wait no longer.
    """
    assert model.stop is not None
    (state, previous), running = begun, torch.arange(len(fixed))
    total, parts, owners = torch.zeros(len(fixed), dtype=torch.float64), [], []
    for t in range(longest + 1):
        hidden, state = _step(model, previous, fixed[running], state)
        if t or not from_start:
            logit = model.stop(hidden).squeeze(-1).double()
            goes_on = torch.rand_like(logit) >= logit.sigmoid()
            total[running] += torch.where(goes_on, functional.logsigmoid(-logit), functional.logsigmoid(logit))
            running, hidden, state = running[goes_on], hidden[goes_on], tuple(one[goes_on] for one in state)
        if len(running) == 0 or t == longest:
            break
        values, logs, previous = _draw(model, hidden)
        total[running] += logs
        parts.append(values)
        owners.append(running)
    if len(running):
        warnings.warn(
            f"{len(running)} of {len(fixed)} sequences had no end after {longest} steps and are cut there; train the "
            "model further, or raise longest.",
            UserWarning,
            stacklevel=5,
        )
    owner = torch.cat(owners) if owners else running
    order = owner.argsort(stable=True)
    values = torch.cat(parts)[order] if parts else torch.zeros(0, dtype=torch.float64)
    return Drawn(values, torch.bincount(owner, minlength=len(fixed)), total)


def forecast(
    model: RecurrentModel, series: Sequences, horizon: int, quantiles: Sequence[float], covariates: Any, seed: int
) -> pd.DataFrame:
    """The law of the next `horizon` steps of every sequence as a frame; see `RecurrentModel.forecast`."""
    check_forecast(horizon, quantiles)
    if model.covariates.names and covariates is None:
        raise DataError(
            "a forecast must be given what the model depends on at the steps ahead, "
            f"{', '.join(model.covariates.names)}, got nothing; pass covariates=, a frame with a row for each of them."
        )
    parts = []
    with answering(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ahead = _steps_ahead(model, series, horizon, covariates)
        begun = _after(model, series, series.count)
        for chosen in torch.arange(series.count).split(max(1, AT_ONCE // FUTURES)):
            many = torch.repeat_interleave(chosen, FUTURES)
            state, previous = begun
            drawn = run_along(model, ahead.take(many), (tuple(one[many] for one in state), previous[many]))
            parts.append(drawn.values.reshape(len(chosen), FUTURES, horizon, *drawn.values.shape[1:]))
    futures = torch.cat(parts).transpose(0, 1).flatten(1, 2)
    columns = drawn_columns(futures, model.family, tuple(series.columns), series.categories, quantiles)
    return forecast_frame(columns, series, horizon)


# ---- parts ---------------------------------------------------------------------------------------------------------


def _step(model: RecurrentModel, previous: Tensor, fixed: Tensor, state: State) -> tuple[Tensor, State]:
    """h_t (B, H) from the encoded y_{t-1} and what enters besides."""
    assert isinstance(model.cell, Cell)
    return model.cell.step(torch.cat([model.reader(previous).to(model.dtype), fixed], -1), state)


def _draw(model: RecurrentModel, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y_t (B, *event), its log-probability (B,), and y_t as it is fed back."""
    law = model.head.distribution(hidden)
    values = _whole(law.sample(), model, hidden.shape[:-1])
    return values, law.log_prob(values).double(), model.reader.encode(values, None)


def _whole(drawn: Tensor, model: RecurrentModel, batch: torch.Size) -> Tensor:
    """A draw for each of the batch as float64."""
    return drawn.double().expand(torch.Size([*batch, *model.head.event_shape]))


def _after(model: RecurrentModel, past: Sequences | None, count: int) -> Any:
    """The state after sequences that were seen and their last y encoded; None without any."""
    if past is None:
        return None
    if model.length_law is not None:
        raise ModelError("past must be None for a model that knows its length, got a series; use another stopping.")
    if not isinstance(model.cell, Cell):
        raise ModelError("a layer that sees the future must not go on from a past, got one; use a causal cell.")
    if past.count != count:
        raise DataError(f"past must hold a sequence for each that goes on, got {past.count} for {count}; give as many.")
    examples = encode_series(model, replace(past, weights=None), ends=False)
    state = model.hidden(examples)[1]
    if model.feedback != "observed":
        return state, model.reader.absent(count)
    return state, model.reader.encode(past.values, past.observed)[past.offsets[1:] - 1]


def _steps_ahead(model: RecurrentModel, series: Sequences, horizon: int, covariates: Any) -> Sequences:
    """The steps to come alone, with their covariates; a vector stays what it was."""
    known, vector = series, model.vector.names
    if series.covariates is not None and vector:
        moving = [name for name in series.covariate_names if name in model.covariates.names and name not in vector]
        known = _with_columns(series, moving)
    ahead = known.future(horizon, covariates if model.covariates.names else None).split(-horizon)[1]
    if series.covariates is None or not vector:
        return ahead
    last = torch.repeat_interleave(series.offsets[1:] - 1, horizon)
    fixed = _with_columns(series, vector).covariates
    assert fixed is not None
    parts = [fixed[last]] if ahead.covariates is None else [fixed[last], ahead.covariates]
    names = (*vector, *(() if ahead.covariates is None else ahead.covariate_names))
    return replace(ahead, covariates=torch.cat(parts, 1), covariate_names=names)


def _with_columns(series: Sequences, names: Sequence[str]) -> Sequences:
    """The series with these of its covariates alone."""
    if series.covariates is None or not names:
        return replace(series, covariates=None, covariate_names=())
    places = [series.covariate_names.index(name) for name in names]
    return replace(series, covariates=series.covariates[:, places], covariate_names=tuple(names))


def _vectors(model: RecurrentModel, count: int | None, vectors: Any, past: Sequences | None) -> Tensor:
    """(count, V) v of each sequence that stops by itself."""
    names = model.vector.names
    if count is not None and (isinstance(count, bool) or not isinstance(count, Integral) or count < 1):
        raise DataError(f"count must be a whole number of at least 1, got {count!r}; say how many sequences to draw.")
    if vectors is None:
        if names or (count is None and past is None):
            what = f"vectors, {', '.join(names)} of each" if names else "count"
            raise DataError(f"sequences that stop by themselves must come with {what}, got None; give it, or lengths.")
        return torch.zeros(past.count if count is None and past is not None else int(count or 0), 0).double()
    rows = torch.as_tensor(np.asarray(vectors, dtype=np.float64))
    rows = rows.unsqueeze(-1) if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] != len(names) or (count is not None and len(rows) != count):
        raise DataError(
            f"vectors must hold {len(names)} numbers ({', '.join(names) or 'none'}) for each sequence, got shape "
            f"{tuple(rows.shape)}; give a row for each of count."
        )
    return rows


def _as_series(model: RecurrentModel, drawn: Drawn, along: Sequences | None) -> Sequences:
    values, categories = drawn.values, model.categories
    if categories is not None:
        values = values.to(torch.uint8 if len(categories) <= 256 else torch.int32)
    named = {"columns": model.names or None, "categories": categories}
    if along is None:
        if bool((drawn.lengths == 0).any()) or math.prod(drawn.lengths.shape) == 0:
            raise DataError("sequences must have steps, got one that ended at once; simulate whole sequences.")
        return Sequences(values, drawn.lengths, **named)  # type: ignore[arg-type]
    return replace(along, values=values, observed=None, weights=None, labels=None, **named)
