"""The chains of a sampler: one after the other, or each in a process of its own, forked.

A forked process has all that its parent has: the model, the recorded density, the compiled recursions. Nothing is sent
to it and nothing imported, so that any program will do, one that was typed into a notebook too. It writes its draws
into memory that both look at. On Linux only: elsewhere libraries do not bear being forked.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from probseq.inference.progress import Progress
from probseq.kernels.threads import thread_count

FORKS = sys.platform == "linux"
"""Whether processes can be forked here."""

LOOK = 0.2
"""Seconds between looks at how far the chains are."""

GRACE = 5.0
"""Seconds that an interrupted process has to put down what it has."""

Report = Callable[[int, float], None]


@dataclass(frozen=True, eq=False)
class Chain:
    """What one chain left behind, warm-up first.

    Args:
        points: (tune + draws, P) unconstrained coordinates.
        statistics: name -> (tune + draws,) numbers.
        interrupted: whether it is shorter than was asked for because the user stopped it.
    """

    points: np.ndarray
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    interrupted: bool = False

    def first(self, size: int) -> Chain:
        """So many of its draws, warm-up included."""
        return Chain(self.points[:size], {name: each[:size] for name, each in self.statistics.items()}, True)


def sampled_chains(
    run: Callable[[int, Report], Chain],
    chains: int,
    workers: int | None,
    shape: tuple[int, int],
    names: Sequence[str],
    bar: Progress,
) -> list[Chain]:
    """All chains, in order; after an interrupt those that are done, and those that ran as far as they came.

    A process that dies takes no chain with it: that one is run again here, where what is wrong shows itself.

    Args:
        run: one chain by its number; it calls its second argument with (draws so far, log density) now and then, and
            returns what it has on a KeyboardInterrupt.
        chains: how many.
        workers: processes at a time; None: as many as torch is allowed threads.
        shape: (tune + draws, P) of the points of a whole chain.
        names: of its statistics.
        bar: shows how far they are.

    Raises:
        KeyboardInterrupt: the user stopped it before any chain had draws.
    """
    workers = min(chains, thread_count() if workers is None else workers)
    done: dict[int, Chain] = {}
    try:
        if workers > 1 and FORKS:
            _forked([_Apart(number, shape, names) for number in range(chains)], run, workers, bar, done)
        for number in range(chains):
            if number not in done:
                done[number] = run(number, bar.report)
                bar.finish_attempt()
                if done[number].interrupted:
                    break
    except KeyboardInterrupt:
        if not done:
            raise
    return [done[number] for number in sorted(done)]


class _Apart:
    """One chain in a forked process.

    Attributes:
        number: of the chain.
        pid: of the process.
        pipe: that ends when the process does.
        progress: (4,) draws so far, log density, draws left behind, whether it was interrupted; shared.
        points, statistics: as those of a `Chain`, statistics (names, tune + draws); shared.
    """

    def __init__(self, number: int, shape: tuple[int, int], names: Sequence[str]) -> None:
        self.number, self.names = number, names
        rows, columns = shape
        memory = mmap.mmap(-1, 8 * (4 + rows * (columns + len(names))))
        numbers = np.frombuffer(memory, np.float64)
        self.progress, rest = numbers[:4], numbers[4:]
        self.points = rest[: rows * columns].reshape(rows, columns)
        self.statistics = rest[rows * columns :].reshape(len(names), rows)
        self.pid, self.pipe = -1, -1

    def start(self, run: Callable[[int, Report], Chain]) -> None:
        """Fork.

        Raises:
            OSError: the system has no room for another process.
        """
        parent, (reading, writing) = os.getpid(), os.pipe()
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # of the child for good: it heeds SIGTERM
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that other threads may hold locks; the child takes none of theirs
                self.pid = os.fork()
            if self.pid == 0:
                self._live(run, parent)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        self.pipe = reading

    def _live(self, run: Callable[[int, Report], Chain], parent: int) -> None:
        """The whole life of the child, which ends here whatever happens."""
        failed = 1
        try:
            signal.signal(signal.SIGTERM, _interrupt)
            torch.set_num_threads(1)  # threads of the parent are not there to be waited for

            def report(draws: int, value: float) -> None:
                self.progress[:2] = draws, value
                if os.getppid() != parent:
                    os._exit(1)

            chain = run(self.number, report)
            size = len(chain.points)
            self.points[:size] = chain.points
            for row, name in zip(self.statistics, self.names, strict=True):
                row[:size] = chain.statistics[name]
            self.progress[2:] = size, chain.interrupted
            failed = 0
        finally:
            os._exit(failed)

    def collect(self) -> Chain | None:
        """What a process that has ended left behind; None where it failed."""
        os.close(self.pipe)
        _, status = os.waitpid(self.pid, 0)
        self.pid = -1
        if status != 0:
            return None
        size = int(self.progress[2])
        columns = {name: row[:size].copy() for name, row in zip(self.names, self.statistics, strict=True)}
        return Chain(self.points[:size].copy(), columns, bool(self.progress[3]))

    def send(self, number: int) -> None:
        """A signal, if it still runs."""
        if self.pid > 0:
            os.kill(self.pid, number)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _forked(
    waiting: list[_Apart], run: Callable[[int, Report], Chain], workers: int, bar: Progress, done: dict[int, Chain]
) -> None:
    """Put chains into `done` that are run so many at a time; what fails is left out."""
    running: list[_Apart] = []
    try:
        while waiting or running:
            with contextlib.suppress(OSError):
                while waiting and len(running) < workers:
                    waiting[0].start(run)
                    running.append(waiting.pop(0))
            if not running:
                return
            _end(running, done, bar)
            if running:
                bar.report(int(running[0].progress[0]), float(running[0].progress[1]))
    except KeyboardInterrupt:
        until = time.monotonic() + GRACE
        for apart in running:
            apart.send(signal.SIGTERM)
        while running and time.monotonic() < until:
            _end(running, done, bar)
        raise
    finally:
        for apart in running:
            apart.send(signal.SIGKILL)
            apart.collect()


def _end(running: list[_Apart], done: dict[int, Chain], bar: Progress) -> None:
    """Wait a little for processes to end; take those that do out and put what they leave into `done`."""
    ready = set(select.select([apart.pipe for apart in running], [], [], LOOK)[0])
    for apart in [apart for apart in running if apart.pipe in ready]:
        running.remove(apart)
        chain = apart.collect()
        if chain is not None:
            done[apart.number] = chain
            bar.finish_attempt()
