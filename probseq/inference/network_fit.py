"""A trained network: its weights, how they were found, and every answer that it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from probseq.errors import ModelError
from probseq.inference import network_storage
from probseq.models.network import Network


@dataclass(frozen=True, eq=False)
class NetworkFit:
    """A network with the best weights of its training.

    Args:
        network: with the weights of `best_epoch`.
        curves: a row for each epoch: `epoch` from 1; `train`, nats per step while it was learned from; `validation`,
            nats per step after the epoch, where there was any; `learning_rate`; `gradient_norm`, the mean before
            clipping; `seconds` since the start.
        best_epoch: the one of least validation loss (training loss where there was no validation); 0 if none ended.
        converged: whether it stopped because the loss no longer fell.
        stop_reason: in words.
        seconds: wall time, of all the pieces of a run that was resumed.
        seed: of batches and of what is random in the network.
        options: the others, by name.
        fingerprint: SHA-256 of the data.
    """

    network: Network = field(repr=False)
    curves: pd.DataFrame = field(repr=False)
    best_epoch: int
    converged: bool
    stop_reason: str
    seconds: float
    seed: int
    options: dict[str, Any] = field(repr=False)
    fingerprint: str = field(repr=False)

    @property
    def n_parameters(self) -> int:
        """Numbers that are trained."""
        return sum(weight.numel() for weight in self.network.parameters() if weight.requires_grad)

    @property
    def watched(self) -> str:
        """The column of the curves by which the best epoch was chosen."""
        return "validation" if "validation" in self.curves else "train"

    # ---- answers, where the network has them -----------------------------------------------------------------------

    def log_prob(self, data: Any, batch_size: int = 256) -> Tensor:
        """(N,) float64 nats: log p of each example."""
        return self.network.log_prob(data, batch_size)

    def predictive_log_prob(self, series: Any) -> Tensor:
        """(T,) nats: log p(x_t | x_<t), one step ahead; zero at a missing step."""
        return self._answer("predictive_log_prob")(series)

    def simulate(self, *arguments: Any, **options: Any) -> Any:
        """New data from the network; its own `simulate` says of what."""
        return self._answer("simulate")(*arguments, **options)

    def forecast(self, *arguments: Any, **options: Any) -> Any:
        """The steps to come; its own `forecast` says of what."""
        return self._answer("forecast")(*arguments, **options)

    # ---- words and files -------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """The fit as plain numbers, as `probseq train --json` prints it; losses in nats per step."""
        return network_storage.summary(self)

    def save(self, directory: str | Path) -> Path:
        """Write the fit as JSON and safetensors into a directory (made if need be); all of it or nothing."""
        return network_storage.save(self, Path(directory))

    @staticmethod
    def load(directory: str | Path, network: type[Network] | None = None) -> NetworkFit:
        """Read a fit; scores are bit-equal to those of the fit that was saved.

        Args:
            directory: as given to `save`.
            network: the class, for a network of the user's own; code is never stored.
        """
        return network_storage.load(Path(directory), network)

    def _answer(self, name: str) -> Any:
        found = getattr(self.network, name, None)
        if found is None:
            raise ModelError(f"a network must be able to {name}, got kind {self.network.kind!r}; ask its log_prob.")
        return found
