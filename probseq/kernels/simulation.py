"""Draw paths of the chain itself, with no data: z_1 ~ pi, z_t+1 ~ A(z_t, .)."""

from __future__ import annotations

import numpy as np
from numba import njit

from probseq.kernels.bits import row_at
from probseq.kernels.exact_sweeps import draw


@njit(cache=True, nogil=True)
def simulate_sequence(start, end, initial, transition, t_raw, t_width, uniforms, path):
    """Fill path[start:end] by inverting uniforms (T,) through initial (K,) and transition (S, K, K)."""
    for step in range(start, end):
        if step == start:
            path[step] = draw(initial, uniforms[step])
        else:
            move = row_at(t_raw, t_width, step - 1) if t_width else np.int64(0)
            path[step] = draw(transition[move, path[step - 1]], uniforms[step])
