"""A C forward pass compiled on the spot, the unit in which long recursions are measured."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np


def forward_nanoseconds(states: int, steps: int = 10_000_000) -> float | None:
    """Median nanoseconds a step of the C forward pass; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "forward.so"
        source = Path(__file__).with_name("forward_pass.c")
        command = [compiler, "-O3", "-march=native", "-ffast-math", f"-DK={states}", "-shared", "-fPIC"]
        subprocess.run([*command, str(source), "-o", str(library), "-lm"], check=True)
        call = ctypes.CDLL(str(library)).forward_pass
        call.restype = ctypes.c_double
        rng = np.random.default_rng(0)
        index = rng.integers(0, 4, steps, dtype=np.uint8)
        initial = np.full(states, 1.0 / states)
        transition = np.full((states, states), 0.1 / max(states - 1, 1))
        np.fill_diagonal(transition, 0.9)
        table = rng.dirichlet(np.ones(4), states).T.copy()
        arguments = [array.ctypes.data_as(ctypes.c_void_p) for array in (initial, transition, table, index)]
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            call(*arguments, ctypes.c_int64(steps))
            seconds.append(time.perf_counter() - began)
    return 1e9 * float(np.median(seconds)) / steps
