"""A trained network on disk: `network.json` says what it is, `network.safetensors` holds weights and curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn

from probseq.errors import DataError, ModelError
from probseq.io.saving import first_line, save_pair
from probseq.models.network import Network
from probseq.models.network_kinds import network_class

if TYPE_CHECKING:
    from probseq.inference.network_fit import NetworkFit

FORMAT = 1
NAME = "network"
DESCRIPTION, NUMBERS = f"{NAME}.json", f"{NAME}.safetensors"

_PLAIN = ("best_epoch", "converged", "stop_reason", "seconds", "seed", "options", "fingerprint")


def summary(fit: NetworkFit) -> dict[str, Any]:
    """The fit as plain numbers."""
    best = fit.curves[fit.curves["epoch"] == fit.best_epoch]
    losses = {name: float(best[name].iloc[0]) for name in ("train", "validation") if name in best and len(best)}
    return {
        "kind": fit.network.kind,
        "n_parameters": fit.n_parameters,
        "nats_per_step": losses,
        "epochs": len(fit.curves),
        **{name: getattr(fit, name) for name in _PLAIN},
    }


def save(fit: NetworkFit, directory: Path) -> Path:
    """Write a fit; all of it or nothing."""
    description = {
        "format": FORMAT,
        "network": {"kind": fit.network.kind, "description": fit.network.description()},
        "columns": list(fit.curves.columns),
        **{name: getattr(fit, name) for name in _PLAIN},
    }
    return save_pair(directory, NAME, description, weights_of(fit.network, "weights") | curve_tensors(fit.curves))


def load(directory: Path, network: type[Network] | None = None) -> NetworkFit:
    """Read a fit that `save` wrote."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from probseq.inference.network_fit import NetworkFit

    try:
        description = json.loads((directory / DESCRIPTION).read_text())
        if description.get("format") != FORMAT:
            raise ValueError(f"format {description.get('format')!r}, this version reads {FORMAT}")
        tensors = load_file(str(directory / NUMBERS))
        made = (network or network_class(description["network"]["kind"])).rebuild(description["network"]["description"])
        put_weights(made, tensors, "weights")
        made.eval()
        curves = curves_of(tensors, description["columns"])
        return NetworkFit(made, curves, **{name: description[name] for name in _PLAIN})
    except (ModelError, DataError):
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        lacking = Path(error.filename or "").name or NUMBERS
        raise DataError(
            f"a saved network must hold {DESCRIPTION} and {NUMBERS}, got no {lacking} in {directory}; give a directory "
            "that NetworkFit.save, train or probseq train wrote."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise DataError(
            f"a saved network must be whole and of this version, got {first_line(error)} in {directory}; train and "
            "save it again."
        ) from error


def weights_of(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Copies, on the CPU, of all weights and buffers by name."""
    return {f"{prefix}.{name}": copied(value) for name, value in network.state_dict().items()}


def copied(tensor: Tensor) -> Tensor:
    """A copy on the CPU that shares nothing, as safetensors wants it."""
    return tensor.detach().to("cpu", copy=True).contiguous()


@torch.no_grad()
def put_weights(network: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Give a network the weights that `weights_of` took, each in the type it had.

    Raises:
        ValueError: they are of another network.
    """
    own = network.state_dict(keep_vars=True)
    given = {name.removeprefix(f"{prefix}."): one for name, one in tensors.items() if name.startswith(f"{prefix}.")}
    if set(given) != set(own):
        odd = sorted(set(given) ^ set(own))[0]
        raise ValueError(f"weights of another network ('{odd}')")
    for name, value in own.items():
        if value.shape != given[name].shape:
            raise ValueError(f"'{name}' of shape {tuple(given[name].shape)} where {tuple(value.shape)} belongs")
        value.data = given[name].to(value.device, copy=True)


def curve_tensors(curves: pd.DataFrame) -> dict[str, Tensor]:
    """Each column, exactly, as float64."""
    return {f"curves.{name}": torch.tensor(curves[name].tolist(), dtype=torch.float64) for name in curves.columns}


def curves_of(tensors: Mapping[str, Tensor], columns: list[str]) -> pd.DataFrame:
    """The frame that `curve_tensors` took apart."""
    frame = pd.DataFrame({name: tensors[f"curves.{name}"].tolist() for name in columns})
    return frame.astype({"epoch": "int64"})
