"""Threads for the compiled recursions, which hold no lock: as many as torch is allowed (torch.set_num_threads)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_pool: ThreadPoolExecutor | None = None


def thread_count() -> int:
    """Threads that a recursion may use."""
    return torch.get_num_threads()


def run(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Results of the tasks, run side by side; the first of them on the calling thread."""
    if len(tasks) < 2:
        return [task() for task in tasks]
    others = [_executor().submit(task) for task in tasks[1:]]
    return [tasks[0](), *(other.result() for other in others)]


def _executor() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="probseq")
    return _pool


def _forget_pool() -> None:
    global _pool
    _pool = None  # a forked child has the object but not its threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
