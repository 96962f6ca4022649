"""Segment a generated genome of any length: nanoseconds a base and peak memory, in a process of its own.

python -m tests.benchmarks.genome BASES [ORDER [BASES TO FIT TO, 0 FOR ALL]]
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COMPOSITION = np.array([[0.30, 0.20, 0.20, 0.30], [0.22, 0.28, 0.28, 0.22]])
MEAN_LENGTH = 5_000


def write_genome(place: Path, bases: int, seed: int = 0) -> None:
    """One record of AT-rich and GC-rich stretches of geometric length in turn, in lines of 60, one base in 1,000 N."""
    rng, letters = np.random.default_rng(seed), np.frombuffer(b"ACGT", np.uint8)
    with place.open("wb") as stream:
        stream.write(b">generated\n")
        for start in range(0, bases, 6_000_000):
            size = min(6_000_000, bases - start)
            state = np.cumsum(rng.random(size) < 1 / MEAN_LENGTH) % 2
            uniform = rng.random(size)
            line = letters[(uniform[:, None] > COMPOSITION.cumsum(1)[state][:, :3]).sum(1)]
            line[rng.random(size) < 0.001] = ord("N")
            whole = size // 60 * 60
            rows = np.concatenate([line[:whole].reshape(-1, 60), np.full((whole // 60, 1), 10, np.uint8)], axis=1)
            stream.write(rows.tobytes() + line[whole:].tobytes() + (b"\n" if size > whole else b""))


def measure(bases: int, order: int = 0, fit_bases: int = 5_000_000) -> dict[str, float]:
    """Times of fitting and of reading with its files, and peak memory beyond what the imports took."""
    from probseq.genome import segment

    with tempfile.TemporaryDirectory() as folder:
        small, large, out = (Path(folder) / name for name in ("small.fa", "large.fa", "segments.bed"))
        write_genome(small, 60_000)
        segment(small, 2, order=order, restarts=1, out=out)  # compile
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        began = time.perf_counter()
        write_genome(large, bases)
        written = time.perf_counter() - began
        found = segment(large, 2, order=order, restarts=2, out=out, fit_bases=fit_bases)
        size = sum(path.stat().st_size for path in found.files)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "bases": bases,
        "order": order,
        "seconds_generating": round(written, 1),
        "bases_fitted_to": found.fit_bases,
        "iterations": sum(attempt.iterations for attempt in found.fit.attempts),
        "seconds_fitting": round(found.fit_seconds, 1),
        "seconds_reading": round(found.read_seconds, 1),
        "ns_per_base": round(1e9 * (found.fit_seconds + found.read_seconds) / bases, 1),
        "segments": len(found.segments),
        "bytes_written": size,
        "peak_bytes": peak,
        "peak_bytes_beyond_imports": peak - before,
        "bytes_per_base": round((peak - before) / bases, 2),
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(float(sys.argv[1])), *map(int, sys.argv[2:4])), indent=1))
