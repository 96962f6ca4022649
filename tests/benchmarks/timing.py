"""Honest timing: every package in a process of its own, taking turns; a ratio is the median over those turns.

Processes of their own, because a package's thread pool goes on spinning after its work and would slow down whoever
comes next. Only the one whose turn it is does anything; the order goes round.
"""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection

TURN = 5e-2
"""Seconds that a turn of short calls lasts."""

Calls = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Timing:
    """Seconds of every turn of one contender, after calls that are not counted (compilation, caches)."""

    name: str
    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Contender:
    """A package in a process of its own, which makes its calls there and times them when asked.

    Args:
        name: of the package.
        make: a function of a module, and its arguments, which gives the calls by name.
    """

    def __init__(self, name: str, make: Callable[..., Calls], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()

    @cached_property
    def works(self) -> list[str]:
        """What it can be asked for; waits until the process is ready, so start all contenders first."""
        return self._pipe.recv()

    def time(self, work: str, repeats: int) -> float:
        """Mean seconds of so many calls in a row."""
        self._pipe.send((work, repeats))
        return self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def _serve(pipe: Connection, make: Callable[..., Calls], arguments: tuple) -> None:
    import warnings

    warnings.simplefilter("ignore")
    calls = make(*arguments)
    pipe.send(list(calls))
    while (asked := pipe.recv()) is not None:
        work, repeats = asked
        gc.collect()
        call = calls[work]
        call()  # wakes threads and fills caches
        began = time.perf_counter()
        for _ in range(repeats):
            call()
        pipe.send((time.perf_counter() - began) / repeats)


def take_turns(
    contenders: list[Contender], work: str, budget: float = 20.0, most: int = 15, least: int = 3
) -> dict[str, Timing]:
    """Time one work of every contender that does it, in turn, until the budget (seconds) or `most` rounds are used."""
    able = [contender for contender in contenders if work in contender.works]
    first = {contender.name: contender.time(work, 1) for contender in able}
    repeats = {name: max(1, min(1000, int(TURN / max(seconds, 1e-7)))) for name, seconds in first.items()}
    once = sum(first[name] * (repeats[name] + 1) for name in first)
    rounds = max(least, min(most, int(budget / max(once, 1e-9))))
    found: dict[str, list[float]] = {name: [] for name in first}
    for number in range(rounds):
        shift = number % len(able)
        for contender in able[shift:] + able[:shift]:
            found[contender.name].append(contender.time(work, repeats[contender.name]))
    return {name: Timing(name, seconds) for name, seconds in found.items()}


def ratio(slow: Timing, fast: Timing) -> float:
    """How many times faster `fast` is: the median of the ratios of neighbouring turns."""
    return statistics.median(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))
