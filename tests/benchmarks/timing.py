"""Honest timing: contenders take turns in one process, and a ratio is the median over those turns."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of every turn of one contender, after one call that is not counted (compilation, caches)."""

    name: str
    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def take_turns(
    contenders: dict[str, Callable[[], object]], budget: float = 20.0, most: int = 15, least: int = 3
) -> dict[str, Timing]:
    """Time every contender in turn, round by round, until the budget (seconds) or `most` rounds are used up."""
    first: dict[str, float] = {}
    for name, call in contenders.items():
        call()
        began = time.perf_counter()
        call()
        first[name] = time.perf_counter() - began
    # A call of microseconds is repeated within its turn, so that the clock resolves it.
    repeats = {name: max(1, min(1000, int(2e-3 / max(seconds, 1e-7)))) for name, seconds in first.items()}
    once = sum(first[name] * repeats[name] for name in contenders)
    rounds = max(least, min(most, int(budget / max(once, 1e-9))))
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            gc.collect()
            began = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            found[name].append((time.perf_counter() - began) / repeats[name])
    return {name: Timing(name, seconds) for name, seconds in found.items()}


def ratio(slow: Timing, fast: Timing) -> float:
    """How many times faster `fast` is: the median of the ratios of neighbouring turns."""
    return statistics.median(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))
