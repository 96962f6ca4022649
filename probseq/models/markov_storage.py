"""A fitted Markov chain on disk: `markov.json` says what it is, `markov.safetensors` holds its counts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from probseq.errors import DataError
from probseq.io.saving import first_line, save_pair
from probseq.models.markov_fit import MarkovFit
from probseq.models.markov_model import MarkovModel
from probseq.models.ngrams import KneserNey, MaximumLikelihood, NGrams, PosteriorMean, WittenBell

FORMAT = 1
NAME = "markov"
DESCRIPTION, NUMBERS = f"{NAME}.json", f"{NAME}.safetensors"
_SMOOTHING = {kind.__name__: kind for kind in (PosteriorMean, MaximumLikelihood, WittenBell, KneserNey)}


def save(fit: MarkovFit, directory: str | Path) -> Path:
    """Write a fit into a directory, made if need be; all of it or nothing."""
    directory, smoothing = Path(directory), fit.model.smoothing
    model = {name: getattr(fit.model, name) for name in ("order", "concentration", "given", "symbols")}
    description = {
        "format": FORMAT,
        "model": {**model, "smoothing": {"kind": type(smoothing).__name__, **_fields(smoothing)}},
        "columns": fit.columns,
        "categories": fit.categories,
        "fingerprint": fit.fingerprint,
    }
    tensors = {"codes": torch.from_numpy(fit.grams.codes).clone(), "counts": torch.from_numpy(fit.grams.counts).clone()}
    return save_pair(directory, NAME, description, tensors)


def load(directory: str | Path) -> MarkovFit:
    """Read a fit that `save` wrote; its scores are bit-equal."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    directory = Path(directory)
    try:
        description = json.loads((directory / DESCRIPTION).read_text())
        tensors = load_file(str(directory / NUMBERS))
        if description.get("format") != FORMAT:
            raise ValueError(f"format {description.get('format')!r}, this version reads {FORMAT}")
        fields = dict(description["model"])
        smoothing = dict(fields.pop("smoothing"))
        model = MarkovModel(**fields, smoothing=_SMOOTHING[smoothing.pop("kind")](**smoothing))
        grams = NGrams(model.categories, model.order, tensors["codes"].numpy(), tensors["counts"].numpy())
        names = description["categories"]
        categories = None if names is None else tuple(names)
        return MarkovFit(model, grams, tuple(description["columns"]), categories, description["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = first_line(error)
        raise DataError(
            f"A saved fit must be whole and of this version, got {reason} in {directory}; fit and save it again."
        ) from error


def _fields(smoothing: object) -> dict[str, object]:
    return dataclasses.asdict(smoothing)  # pyright: ignore[reportArgumentType]
