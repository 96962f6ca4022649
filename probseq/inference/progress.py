"""Progress bars on standard error, or silence: of the attempts of a fit, and of the epochs of a training."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any


class Progress:
    """Counts attempts, and shows the iteration and objective of the one that runs.

    Args:
        name: of the method.
        attempts: how many there will be.
        shown: False makes every call do nothing.
    """

    def __init__(self, name: str, attempts: int, shown: bool) -> None:
        self.name, self.attempts, self.done = name, attempts, 0
        self._bar: Any = None
        self._task: Any = None
        if shown:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self.name, total=self.attempts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def report(self, iteration: int, objective: float) -> None:
        """Say where the running attempt is."""
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self.name}: iteration {iteration}, {objective:.4f}")

    def finish_attempt(self) -> None:
        """One attempt is done."""
        self.done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done)


class TrainingProgress:
    """Shows how far a training is, its losses, its batches a second and the time that its epochs will take at most.

    Args:
        epochs: how many there will be at most.
        shown: False makes every call do nothing.
    """

    def __init__(self, epochs: int, shown: bool) -> None:
        self.epochs = epochs
        self._bar: Any = None
        self._task: Any = None
        if shown:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            rate = TextColumn("{task.fields[rate]}")
            columns = (TextColumn("{task.description}"), BarColumn(), rate, TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)

    def __enter__(self) -> TrainingProgress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("train", total=None, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def report(self, batch: int, length: int, losses: Mapping[str, float]) -> None:
        """Say where the training is.

        Args:
            batch: how many are done in all.
            length: batches of an epoch.
            losses: of the last epoch that ended, by name; empty before.
        """
        if self._bar is None:
            return
        said = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        speed = self._bar.tasks[self._task].finished_speed or self._bar.tasks[self._task].speed
        self._bar.update(
            self._task,
            total=self.epochs * length,
            completed=batch,
            rate="" if speed is None else f"{speed:.3g} batches/s",
            description=f"epoch {min(self.epochs, batch // length + 1)} of {self.epochs}{': ' * bool(said)}{said}",
        )
