"""Where a training is, on disk: one file in its directory, replaced whole, from which it goes on exactly.

Batches and what is random in a network take their seeds from the seed of the run, the epoch and the batch; so weights,
the optimiser's state and the position are all there is to keep.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from probseq.errors import FitError
from probseq.inference.network_storage import copied, curve_tensors, curves_of
from probseq.inference.training_options import check_same_run
from probseq.inference.training_steps import Sums
from probseq.io.saving import first_line, load_one, save_one
from probseq.io.writing import write_text

NAME, CURVES = "checkpoint.safetensors", "curves.csv"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training between two batches.

    Args:
        epoch: how many ended.
        batch: how many of the next one are done.
        sums: of those.
        seconds: since the start.
        curves: a row for each epoch that ended.
        tensors: by name: `weights.` as they are, `best.` of the best epoch, `optimiser.` its state.
    """

    epoch: int
    batch: int
    sums: Sums
    seconds: float
    curves: pd.DataFrame
    tensors: Mapping[str, Tensor]


class RunDirectory:
    """The directory of one run.

    Args:
        path: made if need be.
        run: what the run is of: fingerprints of data and network, and the options that bind.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        self.path = path
        self.run: dict[str, Any] = json.loads(json.dumps(run))

    @property
    def file(self) -> Path:
        """The checkpoint."""
        return self.path / NAME

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The directory is made if need be, and is one process's own as long as the block lasts.

        The lock goes with the process, however that ends; where the system has no such locks, there is none.

        Raises:
            FitError: another training is at work there.
        """
        with ExitStack() as held:
            with suppress(ImportError, OSError):  # what cannot be written is said when it is written
                import fcntl

                self.path.mkdir(parents=True, exist_ok=True)
                place = os.open(self.path, os.O_RDONLY)
                held.callback(os.close, place)
                try:
                    fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise FitError(
                        f"the directory of a training must be its own, got another one at work in {self.path}; wait "
                        "for it, or choose another directory."
                    ) from error
            yield

    def open(self, resume: bool) -> Checkpoint | None:
        """The checkpoint to go on from; None where the run begins.

        Raises:
            FitError: the directory holds a run that is not to be resumed, or another one.
        """
        from safetensors import SafetensorError

        if not self.file.exists():
            return None
        if not resume:
            raise FitError(
                f"the directory of a new training must hold no other one, got {self.file}; resume it (resume=True), or "
                "choose another directory."
            )
        try:
            description, tensors = load_one(self.file)
            if description.get("format") != FORMAT:
                raise ValueError(f"format {description.get('format')!r}, this version reads {FORMAT}")
            curves = curves_of(tensors, description["columns"])
            found = Checkpoint(
                description["epoch"],
                description["batch"],
                Sums(*description["sums"]),
                description["seconds"],
                curves,
                tensors,
            )
            run = description["run"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise FitError(
                f"a checkpoint must be whole and of this version, got {first_line(error)} in {self.file}; choose "
                "another directory."
            ) from error
        check_same_run(run, self.run, str(self.path))
        for name in (NAME, CURVES):
            for half in self.path.glob(f".{name}-*"):  # left by a process that was killed while it wrote
                half.unlink(missing_ok=True)
        return found

    def keep(self, found: Checkpoint) -> None:
        """Replace the checkpoint, and the curves where an epoch ended."""
        description = {
            "format": FORMAT,
            "run": self.run,
            "epoch": found.epoch,
            "batch": found.batch,
            "sums": list(found.sums),
            "seconds": found.seconds,
            "columns": list(found.curves.columns),
        }
        save_one(self.file, description, {**found.tensors, **curve_tensors(found.curves)})
        if found.batch == 0:
            write_text(self.path / CURVES, found.curves.to_csv(index=False))


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser, each tensor by number of the weight and name."""
    return {
        f"optimiser.{number}.{name}": copied(value)
        for number, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }


def put_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser the state that `optimiser_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "optimiser":
            number, _, name = rest.partition(".")
            state.setdefault(int(number), {})[name] = value.clone()
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
