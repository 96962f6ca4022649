"""One EM iteration on two-state DNA of any length: nanoseconds a base and peak memory, in a process of its own.

python -m tests.benchmarks.scale 100000000
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np
import torch


def measure(steps: int) -> dict[str, float]:
    """Time of one whole EM iteration (E-step and M-step) and peak memory beyond what the imports took."""
    from probseq import HMM, Sequences, families

    rng = np.random.default_rng(0)
    model = HMM(2, families.Categorical(4))
    small = Sequences.from_arrays(rng.integers(0, 4, 1000).astype(np.uint8), categories=list("ACGT"))
    parameters = {
        "initial": torch.tensor([0.5, 0.5], dtype=torch.float64),
        "transition": torch.tensor([[0.999, 0.001], [0.001, 0.999]], dtype=torch.float64),
        "probabilities": torch.tensor([[0.3, 0.2, 0.2, 0.3], [0.2, 0.3, 0.3, 0.2]], dtype=torch.float64),
    }
    model.bind(small).maximise(parameters, model.expect(parameters, small), False, small)  # compile
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    codes = np.empty(steps, np.uint8)
    for start in range(0, steps, 10_000_000):
        codes[start : start + 10_000_000] = rng.integers(0, 4, min(10_000_000, steps - start), dtype=np.uint8)
    series = Sequences.from_arrays(codes, categories=list("ACGT"))
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        counts = model.expect(parameters, series)
        model.maximise(parameters, counts, False, series)
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "steps": steps,
        "ns_per_step": 1e9 * float(np.median(seconds)) / steps,
        "index_bytes": codes.nbytes,
        "peak_bytes_beyond_imports": peak - before,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(float(sys.argv[1])))))
