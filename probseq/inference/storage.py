"""A fitted hidden Markov model on disk: `fit.json` says what it is, `fit.safetensors` holds its numbers."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from probseq import families
from probseq.errors import DataError, ModelError
from probseq.inference.descriptions import describe, rebuild
from probseq.inference.prior_laws import describe_priors, rebuild_priors
from probseq.io.saving import first_line, save_pair
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel

if TYPE_CHECKING:
    from probseq.inference.fit import Fit
    from probseq.inference.sampling import Sampling

FORMAT = 1
NAME = "fit"
DESCRIPTION, NUMBERS = f"{NAME}.json", f"{NAME}.safetensors"


def summary(fit: Fit) -> dict[str, Any]:
    """The fit as plain numbers and lists."""
    point = dict(fit.parameters)
    states = fit.model.states if isinstance(fit.model, HMM) else None
    model = fit.model
    result: dict[str, Any] = {
        "log_likelihood": fit.log_likelihood,
        "n_parameters": fit.n_parameters,
        "aic": fit.aic,
        "bic": fit.bic,
        "states": states,
        "family": model.emission.name if isinstance(model, HMM) else None,
        "method": fit.method,
        "with_priors": fit.with_priors,
        "converged": fit.converged,
        "stop_reason": fit.stop_reason,
        "iterations": fit.iterations,
        "seconds": fit.seconds,
        "observations": fit.observations,
    }
    if isinstance(model, HMM):
        point = model.complete(point)
        emission = model.emission_parameters(point)
        result |= {name: value.tolist() for name, value in point.items() if name not in emission}
        point = emission
    return result | {"emission": {name: value.tolist() for name, value in point.items()}}


def save(fit: Fit, directory: Path) -> Path:
    """Write a fit; all of it or nothing."""
    description = {
        "format": FORMAT,
        "model": _describe(fit.model),
        "parameters": list(fit.parameters),
        "attempts": [dataclasses.asdict(attempt) for attempt in fit.attempts],
        **{name: getattr(fit, name) for name in _PLAIN},
        "summary": {key: value for key, value in summary(fit).items() if key not in ("emission",)},
    }
    tensors = {f"point.{name}": value.contiguous().clone() for name, value in fit.parameters.items()}
    tensors |= {f"draws.{name}": value.contiguous().clone() for name, value in fit.draws.items()}
    tensors["objective"] = fit.objective
    if fit.sampling is not None:
        parts = {part: getattr(fit.sampling, part) for part in _SAMPLED}
        description["sampling"] = {"chains": fit.sampling.chains, "relabelled": fit.sampling.relabelled}
        description["sampling"] |= {part: list(values) for part, values in parts.items()}
        tensors |= {
            f"{p}.{n}": value.contiguous().clone() for p, values in parts.items() for n, value in values.items()
        }
    return save_pair(directory, NAME, _finite(description), tensors)


def load(directory: Path, program: Any = None) -> Fit:
    """Read a fit that `save` wrote."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from probseq.inference.fit import Attempt, Fit

    try:
        description = json.loads((directory / DESCRIPTION).read_text())
        tensors = load_file(str(directory / NUMBERS))
        if description.get("format") != FORMAT:
            raise ValueError(f"format {description.get('format')!r}, this version reads {FORMAT}")
        model = _model(description["model"], program)
        point = {name: tensors[f"point.{name}"] for name in description["parameters"]}
        draws = {name: tensors[f"draws.{name}"] for name in description["parameters"]}
        _check_numbers(model, point)
        plain = {name: description[name] for name in _PLAIN}
        plain["columns"] = tuple(plain["columns"])
        plain["categories"] = None if plain["categories"] is None else tuple(plain["categories"])
        attempts = tuple(
            Attempt(**{**attempt, "objective": math.nan if attempt["objective"] is None else attempt["objective"]})
            for attempt in description["attempts"]
        )
        sampling = _sampling(description.get("sampling"), tensors)
        return Fit(model, point, draws, objective=tensors["objective"], attempts=attempts, sampling=sampling, **plain)
    except ModelError:
        raise
    except FileNotFoundError as error:
        lacking = Path(error.filename or "").name or NUMBERS
        raise DataError(
            f"A saved fit must hold {DESCRIPTION} and {NUMBERS}, got no {lacking} in {directory}; give a directory "
            "that Fit.save (or probseq fit --out) wrote."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise DataError(
            f"A saved fit must be whole and of this version, got {first_line(error)} in {directory}; fit and save it "
            "again."
        ) from error


_PLAIN = (
    "method",
    "with_priors",
    "log_likelihood",
    "observations",
    "n_parameters",
    "converged",
    "stop_reason",
    "seconds",
    "fingerprint",
    "columns",
    "categories",
)


_SAMPLED = ("statistics", "warmup", "warmup_statistics")
"""The parts of `Sampling` that are tensors by name."""


def _sampling(description: dict[str, Any] | None, tensors: dict[str, Tensor]) -> Sampling | None:
    if description is None:
        return None
    from probseq.inference.sampling import Sampling

    parts = {part: {name: tensors[f"{part}.{name}"] for name in description[part]} for part in _SAMPLED}
    return Sampling(description["chains"], **parts, relabelled=description["relabelled"])


def _describe(model: HMM | ProgramModel) -> dict[str, Any]:
    if isinstance(model, ProgramModel):
        return {"kind": "program", "name": getattr(model.program, "__name__", "program")}

    return {
        "kind": "hmm",
        "states": model.states,
        "emission": model.emission.to_json(),
        "initial": describe(model.initial),
        "transition": describe(model.transition),
        "fixed": {name: value.tolist() for name, value in model.fixed.items()},
        "priors": describe_priors(model.priors),
    }


def _model(description: dict[str, Any], program: Any) -> HMM | ProgramModel:
    if description["kind"] == "program":
        if program is None:
            raise ModelError(
                f"A fit of a user's own program ('{description['name']}') must be loaded with it, got none; call "
                "Fit.load(directory, program)."
            )
        return ProgramModel(program)

    return HMM(
        states=description["states"],
        emission=families.from_json(description["emission"]),
        initial=rebuild(description["initial"]),
        transition=rebuild(description["transition"]),
        priors=rebuild_priors(description.get("priors", {})),
        fixed={name: _numbers(value) for name, value in description.get("fixed", {}).items()},
    )


def _check_numbers(model: HMM | ProgramModel, point: dict[str, Tensor]) -> None:
    """The tensors must be those of the model that the description names."""
    if not isinstance(model, HMM):
        return
    shapes = {name: one.shape for name, one in model.transition.parameters(model.states).items()}
    for name, shape in ({"initial": (model.codes,)} | shapes).items():
        if tuple(point[name].shape) != shape:
            raise ValueError(f"{name} of shape {tuple(point[name].shape)} for {model.states} states")
    if any(not bool(torch.isfinite(value).all()) for value in point.values()):
        raise ValueError("parameters that are not finite")


def _numbers(value: Any) -> Any:
    """Nested lists of numbers with NaN for null."""
    return [_numbers(item) for item in value] if isinstance(value, list) else math.nan if value is None else value


def _finite(value: Any) -> Any:
    """NaN and infinities, which JSON has not, as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
