"""What every `Sequences` must satisfy, whoever makes it. The readers have named the row of a bad cell before this."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from probseq.errors import DataError

if TYPE_CHECKING:
    from probseq.sequences import Sequences


def with_placeholders(values: Tensor, observed: Tensor | None) -> Tensor:
    """values, with the first observed value of its column (0 where there is none) at every missing entry.

    Args:
        values: (T,) or (T, D).
        observed: bool in the same shape, or None.
    """
    if observed is None:
        return values
    first = observed.to(torch.uint8).argmax(dim=0, keepdim=True)
    placeholder = torch.where(observed.any(dim=0), values.gather(0, first), torch.zeros_like(values[:1]))
    return torch.where(observed, values, placeholder)


def check_flat(values: Tensor, lengths: Tensor, observed: Tensor | None) -> None:
    """The shapes of values, lengths and mask, and that every observed value is finite."""
    if values.ndim not in (1, 2) or len(values) == 0 or (values.ndim == 2 and values.shape[1] == 0):
        raise DataError(
            f"values must be a non-empty (steps,) or (steps, columns) array, got shape {tuple(values.shape)};"
            " stand the sequences one after the other and give their lengths."
        )
    if lengths.ndim != 1 or bool((lengths < 1).any()):
        empty = int((lengths.reshape(-1) < 1).int().argmax()) if lengths.numel() else 0
        raise DataError(
            f"every sequence must have at least one step, got {int(lengths.reshape(-1)[empty])} at sequence {empty};"
            " leave it out."
        )
    if int(lengths.sum()) != len(values):
        raise DataError(
            f"lengths must add up to the number of steps, got {int(lengths.sum())} for {len(values)} steps; give one"
            " length per sequence."
        )
    if observed is not None and (observed.dtype != torch.bool or observed.shape != values.shape):
        raise DataError(
            f"observed must be boolean in the shape of values, {tuple(values.shape)}, got {observed.dtype}"
            f" {tuple(observed.shape)}; mark True what was measured."
        )
    if values.dtype == torch.float64:
        _check_finite(values, observed, "values", "mark what is missing in observed")


def check_fields(series: "Sequences") -> None:
    """Every other field of a `Sequences` against its steps and sequences."""
    steps, count = series.total_steps, series.count
    width = 1 if series.values.ndim == 1 else series.values.shape[1]
    covariates = series.covariates
    inputs = 0 if covariates is None else covariates.shape[-1]
    sizes = {
        "ids": (len(series.ids), count, "sequence"),
        "time": (None if series.time is None else len(series.time), steps, "step"),
        "columns": (len(series.columns), width, "column of values"),
        "covariates": (None if covariates is None else len(covariates), steps, "step"),
        "covariate_names": (len(series.covariate_names), inputs, "covariate"),
        "weights": (None if series.weights is None else len(series.weights), count, "sequence"),
        "labels": (None if series.labels is None else len(series.labels), steps, "step"),
    }
    for name, (size, wanted, unit) in sizes.items():
        if size is not None and size != wanted:
            raise DataError(f"{name} must have one entry per {unit}, {wanted}, got {size}; give one for each.")
    if covariates is not None:
        _check_finite(covariates, None, "covariates", "covariates must be known at every step")
    if series.weights is not None:
        _check_weights(series.weights)
    if series.labels is not None:
        _check_labels(series.labels)
    if series.categories is not None and not series.values.is_floating_point():
        _check_codes(series.values, series.observed, len(series.categories))


def _check_labels(labels: Tensor) -> None:
    if labels.ndim == 1 and bool((labels < -1).any()):
        step = int((labels < -1).int().argmax())
        raise DataError(
            f"labels must be state numbers from 0, or -1 where unknown, got {int(labels[step])} at step {step};"
            " number the states from 0."
        )
    if labels.ndim == 1:
        return
    if labels.ndim != 2:
        raise DataError(f"labels must be (steps,) or (steps, states), got shape {tuple(labels.shape)}; reshape them.")
    bad = ~(labels.isfinite() & (labels >= 0)).all(1) | ~(labels > 0).any(1)
    if bool(bad.any()):
        step = int(bad.int().argmax())
        raise DataError(
            "soft labels must be a row of likelihoods for each step, finite, not negative and not all zero, got "
            f"{labels[step].tolist()} at step {step}; give ones where nothing is known."
        )


def _check_weights(weights: Tensor) -> None:
    bad = ~(weights.isfinite() & (weights >= 0))
    if bool(bad.any()):
        at = int(bad.int().argmax())
        raise DataError(
            f"weights must be finite and not negative, got {float(weights[at])} at sequence {at}; give 0 to leave a"
            " sequence out."
        )
    if not bool((weights > 0).any()):
        raise DataError("weights must not all be zero, got only zeros; give at least one sequence a weight above 0.")


def _check_codes(codes: Tensor, observed: Tensor | None, categories: int) -> None:
    highest = int(codes.max())
    if highest >= categories and observed is not None:
        highest = int(codes[observed].max())
    if highest >= categories:
        step = int((codes >= categories).reshape(len(codes), -1).any(dim=1).int().argmax())
        raise DataError(
            f"symbol codes must be below the number of categories, {categories}, got {highest} at step {step}; name"
            " every category."
        )


def _check_finite(values: Tensor, observed: Tensor | None, what: str, remedy: str) -> None:
    if bool(values.isfinite().all()):
        return
    bad = ~values.isfinite() if observed is None else ~values.isfinite() & observed
    if bool(bad.any()):
        entry = bad.nonzero()[0].tolist()
        column = f", column {entry[1]}" if len(entry) == 2 else ""
        raise DataError(
            f"{what} must be finite, got {float(values[tuple(entry)])} at step {entry[0]}{column}; {remedy}."
        )
