"""How a network is trained, as plain values; and what a kept run must share with the one that resumes it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from probseq.errors import FitError
from probseq.models.network import Network

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}

WHOLE = (int, np.integer)
NUMBER = (*WHOLE, float, np.floating)
"""What counts as a number, numpy's own among them."""

FREE = ("epochs", "patience")
"""Options that say when to stop, not where the weights go: a resumed run may have others."""


@dataclass(frozen=True)
class TrainingOptions:
    """What decides the course of a training, its data and network apart.

    Args:
        epochs: passes over the data, at most.
        batch_size: examples of an update.
        learning_rate: of the optimiser.
        optimizer: "adam" (Kingma & Ba 2015), "adamw" (Loshchilov & Hutter 2019), "rmsprop" or "sgd".
        weight_decay: of the optimiser.
        clip: largest norm of the gradient (Pascanu et al. 2013); None leaves it as it is.
        truncate: steps of truncated back-propagation through time (Williams & Peng 1990): an update after each window
            of so many steps, the state carried over; None goes back to the first step.
        patience: epochs without a lower loss before it stops; None goes on.
        halve_after: epochs without a lower loss before the learning rate is halved; None keeps it.
        anneal: let the learning rate fall in a straight line, epoch by epoch, to its part of 1 / epochs in the last.
        bucketed: batches of examples of like length, which saves padding.
        seed: of batches, of the share held out and of what is random in the network.
    """

    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    weight_decay: float = 0.0
    clip: float | None = 1.0
    truncate: int | None = None
    patience: int | None = 10
    halve_after: int | None = None
    anneal: bool = False
    bucketed: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "truncate", "patience", "halve_after", "seed"):
            value = getattr(self, name)
            if value is None and name not in ("epochs", "batch_size", "seed"):
                continue
            least = 0 if name == "seed" else 1
            if isinstance(value, bool) or not isinstance(value, WHOLE) or not least <= value < 2**63:
                raise FitError(f"{name} must be a whole number of at least {least}, got {value!r} in train; give one.")
            object.__setattr__(self, name, int(value))  # numpy's whole numbers are no JSON
        for name in ("learning_rate", "clip", "weight_decay"):
            value = getattr(self, name)
            if value is None and name == "clip":
                continue
            least = name == "weight_decay" and value == 0.0
            if isinstance(value, bool) or not isinstance(value, NUMBER) or not (0.0 < value < math.inf or least):
                rule = "at least 0" if name == "weight_decay" else "above 0"
                raise FitError(f"{name} must be a finite number {rule}, got {value!r} in train; give one.")
            object.__setattr__(self, name, float(value))
        if self.anneal and self.halve_after is not None:
            raise FitError(
                f"halve_after must be None where the rate is annealed, got {self.halve_after} in train; leave one out."
            )
        if self.optimizer not in OPTIMIZERS:
            raise FitError(
                f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {self.optimizer!r} in train; choose among them."
            )

    def optimiser_of(self, network: Network) -> torch.optim.Optimizer:
        """A new one, for all weights that are trained."""
        weights = [one for one in network.parameters() if one.requires_grad]
        if not weights:
            raise FitError("a network must have weights to train, got none; leave some with requires_grad.")
        return OPTIMIZERS[self.optimizer](weights, lr=self.learning_rate, weight_decay=self.weight_decay)

    def plain(self) -> dict[str, Any]:
        """By name."""
        return asdict(self)

    def binding(self) -> dict[str, Any]:
        """Those that a resumed run must share."""
        free = ("patience",) if self.anneal else FREE
        return {name: value for name, value in asdict(self).items() if name not in free}


def training_options(given: dict[str, Any]) -> TrainingOptions:
    """Those given, and for the others what is usual."""
    known = [one.name for one in fields(TrainingOptions)]
    for name in given:
        if name not in known:
            raise FitError(f"an option of train must be one of {', '.join(known)}, got '{name}'; choose among them.")
    return TrainingOptions(**given)


def weights_fingerprint(network: Network) -> str:
    """SHA-256, in hex, of all weights and buffers with their names."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_same_run(kept: dict[str, Any], asked: dict[str, Any], where: str) -> None:
    """Refuse to resume a run of other data, another network or other options.

    Raises:
        FitError: naming what differs.
    """
    remedy = "resume it with what it was started with, or choose another directory"
    for name, what in (("data", "the data"), ("validation", "the validation data"), ("network", "the network")):
        if kept.get(name) != asked[name]:
            raise FitError(
                f"{what} of a resumed training must be what it was started with, got other at {where}; {remedy}."
            )
    for name, value in asked["options"].items():
        if kept["options"].get(name) != value:
            raise FitError(
                f"{name} of a resumed training must be {kept['options'].get(name)!r} as at its start, got {value!r} at "
                f"{where}; {remedy}."
            )
