"""What enters a recurrent model and what it is scored on, out of a series; and which arguments make one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from probseq.errors import DataError, ModelError
from probseq.models.emission_step import observations
from probseq.models.named_layer import made_layer
from probseq.models.step_examples import StepExamples, WholeExamples
from probseq.models.step_readers import Symbols, require_categories, require_columns, require_constant, require_symbols
from probseq.models.stopping import LengthLaw
from probseq.recurrent import Cell, RecurrentLayer
from probseq.sequences import Sequences

if TYPE_CHECKING:
    from probseq.models.recurrent_model import RecurrentModel

FEEDBACK = (None, "observed", "predicted")
VECTOR_AS = ("input", "state", "both")


def encode_series(model: RecurrentModel, series: Sequences, ends: bool) -> WholeExamples:
    """A series as a recurrent model sees it; with `ends` each sequence has an end, which is one step more.

    By step, T of them, or T + N where each sequence has one more for its end: `values` (T, *event); `scored`,
    `counted`, `first` and `end` (T,) bool; `number`, from 0; `covariates` (T, C); `previous`, the encoded y_{t-1},
    where it is fed back; `told` and `length_log_prob`, of a length law. By sequence: `vector` (N, V), and `weight`
    where there are weights.

    Raises:
        DataError: the series is not of the columns, symbols or covariates that the network was made for.
    """
    require_columns(series, model.columns)
    if isinstance(model.reader, Symbols):
        require_symbols(series.values, model.reader.symbols)
    require_categories(series, model.categories)
    lengths = series.lengths + int(ends)
    place = _places(lengths)
    last = torch.repeat_interleave(series.lengths, lengths)
    end = place == last if ends else torch.zeros(len(place), dtype=torch.bool)
    own = torch.repeat_interleave(series.offsets[:-1], lengths) + place  # the step of the series,
    at = torch.where(end, own - 1, own)  # the last one once more at the end
    scored = _scored(model, series)[at] & ~end
    steps = {
        "values": observations(model.family, series)[at],
        "scored": scored,
        "counted": scored | end,
        "number": torch.arange(len(place)),
        "first": place == 0,
        "end": end,
        "covariates": model.covariates.rows(series, "its steps")[at],
    }
    if model.feedback == "observed":
        encoded = model.reader.encode(series.values, series.observed)
        encoded = torch.cat([encoded, model.reader.absent(1)])
        steps["previous"] = encoded[torch.where(place == 0, len(encoded) - 1, own - 1)]
    if model.length_law is not None:
        steps["told"] = model.length_law.told(place, last)
        steps["length_log_prob"] = torch.zeros(len(place), dtype=torch.float64)
        steps["length_log_prob"][place == 0] = model.length_law.log_prob(series.lengths)
    rows = model.vector.rows(series, "its vector")
    each = {"vector": require_constant(rows, series, model.vector.names)}
    if series.weights is not None:
        each["weight"] = series.weights
    causal = isinstance(model.cell, Cell)
    return (StepExamples if causal else WholeExamples)(steps, each, lengths)


def blank_series(model: RecurrentModel, lengths: int | Sequence[int], vectors: Tensor | None = None) -> Sequences:
    """Steps to draw y at, with v of each step (T, V) where there is one.

    Raises:
        DataError: the model has covariates, which lengths alone do not give.
    """
    given = np.asarray(lengths)
    if given.ndim > 1 or given.size == 0 or given.dtype.kind not in "iu" or int(given.min()) < 1:
        raise DataError(
            f"lengths must be whole numbers of at least 1, got {lengths!r}; give the steps of each sequence."
        )
    sizes = given.reshape(-1).tolist()
    lacking = model.covariates.names or (model.vector.names if vectors is None else ())
    if lacking:
        raise DataError(
            f"a model with covariates must be simulated along a series that has them ({', '.join(lacking)}), got the "
            f"lengths {sizes[:5]}; give the series itself: simulate(series, seed=...)."
        )
    values = torch.zeros(sum(sizes), *([model.columns] if model.columns else []), dtype=torch.float64)
    if vectors is None or not model.vector.names:
        return Sequences(values, torch.tensor(sizes))
    return Sequences(values, torch.tensor(sizes), covariates=vectors, covariate_names=model.vector.names)


def _places(lengths: Tensor) -> Tensor:
    """(T,) the number of each step in its sequence, from 0."""
    starts = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    return torch.arange(len(starts)) - starts


def _scored(model: RecurrentModel, series: Sequences) -> Tensor:
    """(T,) bool: steps that have a score; a vector that is missing in part has one where the family sums that out."""
    if model.family.partly_missing and series.observed is not None and series.observed.ndim == 2:
        return series.observed.any(1)
    return series.step_observed


def make_cell(model: RecurrentModel, cell: RecurrentLayer | Callable[[int], RecurrentLayer]) -> RecurrentLayer:
    """The layer, made for the inputs of a model where it is not there yet."""
    if model.input_width == 0:
        raise ModelError("a recurrent model must have an input, got no feedback and no covariates; give one of them.")
    return made_layer(cell, model.input_width)


def require_consistent(model: RecurrentModel, stopping: Any, embeddings: Mapping[str, Any]) -> None:
    """Refuse arguments that are not among the choices, or that contradict each other."""
    choices = (("feedback", model.feedback, FEEDBACK), ("vector_as", model.vector_as, VECTOR_AS))
    for name, value, known in choices:
        if value not in known:
            raise ModelError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}; choose one.")
    if stopping not in (None, "end") and not isinstance(stopping, LengthLaw):
        raise ModelError(f"stopping must be None, 'end' or a LengthLaw, got {stopping!r}; choose one.")
    if not 0 <= model.dropout < 1:
        raise ModelError(f"dropout must be in [0, 1), got {model.dropout} at RecurrentModel; choose the share to drop.")
    if model.feedback and not isinstance(model.cell, Cell):
        raise ModelError(
            f"feedback must be None where the layer sees the future, got {model.feedback!r} with a layer of kind "
            f"{model.cell.kind!r}; use a causal cell, or feedback=None."
        )
    if model.ends and (model.feedback != "observed" or model.covariates.names):
        raise ModelError(
            "an end symbol must follow what was observed before it, got feedback "
            f"{model.feedback!r} and covariates {list(model.covariates.names)}; use feedback='observed' with no "
            "covariates (a vector may be), or stopping=None, since covariates give the length."
        )
    unknown = sorted(set(embeddings) - {*model.covariates.names, *model.vector.names})
    if unknown:
        raise ModelError(
            f"embeddings must be of columns among covariates and vector, got {unknown[0]!r}; name it there, too."
        )
    if model.cell.input_size != model.input_width:
        raise ModelError(
            f"input_size of the cell must be {model.input_width} (feedback, covariates, vector, length), got "
            f"{model.cell.input_size}; give the cell as a function of it: lambda inputs: LSTM(inputs, 32)."
        )
