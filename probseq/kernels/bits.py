"""Powers of two by their bits, and row numbers by their bytes: what the compiled recursions are made of."""

from __future__ import annotations

import numpy as np
from numba import types

from probseq.kernels.jit import intrinsic, kernel

ZERO = -(1 << 58)
"""Binary exponent of the number zero: far below any sum of exponents that a likelihood can reach."""

LN2, LOG2_E = 0.6931471805599453, 1.4426950408889634
LN2_HIGH = 0.693147180369123816490
LN2_LOW = 1.90821492927058770002e-10
"""ln 2 in two parts (Cody and Waite, 1980), so that x - n ln 2 is exact to the last bit for |n| < 2**20."""


@intrinsic
def bits_of(typing_context, number):
    """The 64 bits of a float, as an integer."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.int64))

    return types.int64(types.float64), generate


@intrinsic
def float_of(typing_context, number):
    """The float with these 64 bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float64))

    return types.float64(types.int64), generate


@kernel
def row_at(raw, width, step):
    """Row number of a step, from raw (T * width,) bytes; the step itself without an index (width 0)."""
    if width == 0:
        return np.int64(step)
    if width == 1:
        return np.int64(raw[step])
    start = step * width
    row = np.int64(raw[start]) | (np.int64(raw[start + 1]) << 8)
    for byte in range(2, width):
        row |= np.int64(raw[start + byte]) << (8 * byte)
    return row
