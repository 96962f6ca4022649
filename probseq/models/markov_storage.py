"""A fitted Markov chain on disk: `markov.json` says what it is, `markov.safetensors` holds its counts."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch

from probseq.errors import DataError
from probseq.models.markov_fit import MarkovFit
from probseq.models.markov_model import MarkovModel
from probseq.models.ngrams import KneserNey, MaximumLikelihood, NGrams, PosteriorMean, WittenBell

FORMAT = 1
DESCRIPTION, NUMBERS = "markov.json", "markov.safetensors"
_SMOOTHING = {kind.__name__: kind for kind in (PosteriorMean, MaximumLikelihood, WittenBell, KneserNey)}


def save(fit: MarkovFit, directory: str | Path) -> Path:
    """Write a fit into a directory, made if need be; all of it or nothing."""
    from safetensors.torch import save_file

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
    try:
        directory.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            (half / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
            save_file(tensors, str(half / NUMBERS))
            (half / NUMBERS).chmod((half / DESCRIPTION).stat().st_mode)  # safetensors writes for the owner alone
            for name in (NUMBERS, DESCRIPTION):
                os.replace(half / name, directory / name)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(
            f"A fit must be saved in a directory that can be written, got {reason} at {directory}; choose another "
            "directory."
        ) from error
    return directory


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
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"A saved fit must be whole and of this version, got {reason} in {directory}; fit and save it again."
        ) from error


def _fields(smoothing: object) -> dict[str, object]:
    return dataclasses.asdict(smoothing)  # pyright: ignore[reportArgumentType]
