"""One progress bar for every fit, on standard error, or silence."""

from __future__ import annotations

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
