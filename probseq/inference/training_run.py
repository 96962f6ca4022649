"""One run of training on an ignite engine: what changes while it goes on, and when it ends."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from probseq.errors import FitError
from probseq.inference.network_fit import NetworkFit
from probseq.inference.network_storage import put_weights, weights_of
from probseq.inference.progress import TrainingProgress
from probseq.inference.training_checkpoint import Checkpoint, RunDirectory, optimiser_tensors, put_optimiser
from probseq.inference.training_options import TrainingOptions
from probseq.inference.training_steps import NotFinite, Sums, batches, derived_seed, mean_loss, seed_draws, update
from probseq.models.network import Network


class Run:
    """A training between its first batch and its last.

    Args:
        network: to train, in place.
        examples: to learn from, and how many batches they make is an epoch.
        validation: to choose the best epoch by, or None.
        options: how.
        directory: where checkpoints go, or None.
        minutes: after so many a checkpoint is written within an epoch, too.
        time_limit: seconds after which this piece of the run ends, or None.
        progress: the bar.
    """

    def __init__(
        self,
        network: Network,
        examples: Any,
        validation: Any | None,
        options: TrainingOptions,
        directory: RunDirectory | None = None,
        minutes: float = 10.0,
        time_limit: float | None = None,
        progress: TrainingProgress | None = None,
    ) -> None:
        self.network, self.examples, self.validation, self.options = network, examples, validation, options
        self.directory, self.minutes, self.time_limit = directory, minutes, time_limit
        self.progress = progress or TrainingProgress(0, shown=False)
        self.device = str(next(network.parameters()).device)
        self.optimiser = options.optimiser_of(network)
        self.length = -(-len(examples.lengths) // options.batch_size)
        self.epoch, self.batch, self.sums = 0, 0, Sums()
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}
        self.before, self.began, self.kept = 0.0, time.perf_counter(), time.perf_counter()
        self.stop_reason, self.converged, self._epoch_seed = "", False, 0

    # ---- where it is -----------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Since the start, pauses between the pieces of a resumed run left out."""
        return self.before + time.perf_counter() - self.began

    @property
    def best_epoch(self) -> int:
        """The one of least loss, from 1; 0 before the first ended."""
        if not self.rows:
            return 0
        watched = [row.get("validation", row["train"]) for row in self.rows]
        return int(np.argmin(np.where(np.isnan(watched), np.inf, watched))) + 1

    @property
    def learning_rate(self) -> float:
        """Of the next epoch: halved when neither the loss nor the rate has fallen for `halve_after` epochs."""
        if self.options.anneal:
            return self.options.learning_rate * max(1.0, self.options.epochs - self.epoch) / self.options.epochs
        if not self.rows:
            return self.options.learning_rate
        rate = self.rows[-1]["learning_rate"]
        first = next(row["epoch"] for row in self.rows if row["learning_rate"] == rate)
        waited = self.epoch - max(self.best_epoch, first - 1)
        return rate / 2.0 if self.options.halve_after is not None and waited >= self.options.halve_after else rate

    @property
    def curves(self) -> pd.DataFrame:
        """A row for each epoch that ended."""
        losses = ["train"] if self.validation is None else ["train", "validation"]
        columns = ["epoch", *losses, "learning_rate", "gradient_norm", "seconds"]
        return pd.DataFrame(self.rows, columns=columns).astype({name: "float64" for name in columns[1:]})

    def restore(self, found: Checkpoint) -> None:
        """Go back to where a run was."""
        put_weights(self.network, found.tensors, "weights")
        put_optimiser(self.optimiser, found.tensors)
        self.best = {name: value for name, value in found.tensors.items() if name.startswith("best.")}
        self.epoch, self.batch, self.sums, self.before = found.epoch, found.batch, found.sums, found.seconds
        self.rows = [dict(row) for row in found.curves.to_dict("records")]  # type: ignore[arg-type]
        self._settle_rate()

    def keep(self) -> None:
        """Write a checkpoint, where there is a directory."""
        if self.directory is not None:
            tensors = weights_of(self.network, "weights") | self.best | optimiser_tensors(self.optimiser)
            self.directory.keep(Checkpoint(self.epoch, self.batch, self.sums, self.seconds, self.curves, tensors))
        self.kept = time.perf_counter()

    def fit(self, fingerprint: str) -> NetworkFit:
        """What came of it.

        Args:
            fingerprint: of the data.
        """
        options = {name: value for name, value in self.options.plain().items() if name != "seed"}
        return NetworkFit(
            self.network.to("cpu").eval(),
            self.curves,
            self.best_epoch,
            self.converged,
            self.stop_reason,
            self.seconds,
            self.options.seed,
            options,
            fingerprint,
        )

    # ---- going on --------------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Train until it ends, and leave the best weights in the network."""
        events = _ignite()
        engine = events.Engine(lambda _, chosen: self._step(chosen))
        engine.logger = logging.getLogger("probseq.training")
        engine.logger.addHandler(logging.NullHandler())
        engine.logger.propagate = False
        engine.add_event_handler(events.Events.ITERATION_COMPLETED, self._end_batch)
        engine.add_event_handler(events.Events.EPOCH_COMPLETED, self._end_epoch)
        position = {"iteration": self.epoch * self.length + self.batch, "epoch_length": self.length}
        self.network.train()
        try:
            if not self._ended():
                engine.load_state_dict({**position, "max_epochs": self.options.epochs})
                engine.run(self._stream())
        except NotFinite as error:
            self._diverged(str(error))
        except KeyboardInterrupt:
            self.stop_reason = "interrupted"
        if self.best:
            put_weights(self.network, self.best, "best")

    def _stream(self) -> Iterator[Tensor]:
        """The batches that are to come, without end."""
        while True:
            self._epoch_seed = derived_seed(self.options.seed, 2, self.epoch)
            yield from batches(self.examples.lengths, self.epoch, self.options)[self.batch :]

    def _step(self, chosen: Tensor) -> None:
        seed_draws(self._epoch_seed + self.batch, self.device)
        self.sums = self.sums.plus(update(self.network, self.examples.take(chosen), self.optimiser, self.options))
        self.batch += 1

    def _end_batch(self, engine: Any) -> None:
        last = (
            {name: self.rows[-1][name] for name in ("train", "validation") if name in self.rows[-1]}
            if self.rows
            else {}
        )
        self.progress.report(self.epoch * self.length + self.batch, self.length, last)
        if self.batch == self.length:  # the epoch's own end comes next
            return
        late = self._late()
        if late or (time.perf_counter() - self.kept >= 60.0 * self.minutes and self.directory is not None):
            self.keep()
        if late:
            engine.terminate()

    def _end_epoch(self, engine: Any) -> None:
        if not self.sums.steps:
            raise FitError("the training data must have observed steps, got none in train; give some.")
        row = {"epoch": self.epoch + 1, "train": self.sums.loss}
        if self.validation is not None:
            row["validation"] = mean_loss(self.network, self.validation, self.options.truncate)
            if not self.rows and not math.isfinite(row["validation"]):
                raise FitError(
                    f"validation must have observed steps, possible under the network, got {row['validation']:g} nats "
                    "per step after the first epoch in train, by which no epoch is better than another; look for "
                    "values, symbols or lengths that the family rules out, or for nothing but missing steps."
                )
        row["learning_rate"] = self.optimiser.param_groups[0]["lr"]
        row["gradient_norm"] = self.sums.norm / self.sums.updates
        self.rows.append(row | {"seconds": self.seconds})
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, Sums()
        if self.best_epoch == self.epoch:
            self.best = weights_of(self.network, "best")
        self._settle_rate()
        self.keep()
        if self._ended() or self._late():
            engine.terminate()

    # ---- the end ---------------------------------------------------------------------------------------------------

    def _ended(self) -> bool:
        patience, waited = self.options.patience, self.epoch - self.best_epoch
        if self.epoch and self.batch == 0 and patience is not None and waited >= patience:
            watched = "training" if self.validation is None else "validation"
            self.stop_reason = f"the {watched} loss was no lower for {waited} epochs than after epoch {self.best_epoch}"
            self.converged = True
        elif self.epoch >= self.options.epochs:
            self.stop_reason = f"all {self.options.epochs} epochs are done"
        return bool(self.stop_reason)

    def _late(self) -> bool:
        late = self.time_limit is not None and time.perf_counter() - self.began >= self.time_limit
        if late and not self.stop_reason:
            self.stop_reason = f"the time limit of {self.time_limit:g} seconds was reached"
        return late

    def _diverged(self, what: str) -> None:
        held = f"those of epoch {self.best_epoch}" if self.best else "those before that batch"
        self.stop_reason = (
            f"the {what} in batch {self.batch + 1} of epoch {self.epoch + 1}; the weights are {held}; lower "
            "learning_rate or clip, or look for extreme values in the data"
        )
        warnings.warn(f"The training stopped: {self.stop_reason}.", UserWarning, stacklevel=4)

    def _settle_rate(self) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate


def _ignite() -> Any:
    """ignite's engine, imported when training starts; what it imports of torch warns of itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        import ignite.engine
    return ignite.engine
