"""Arithmetic on single numbers against numpy and scipy, operation by operation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from probseq.kernels.cell_codes import CODES, OPERATIONS
from probseq.kernels.cells import compute

NUMBERS = np.array(
    [-np.inf, -800.0, -3.0, -0.5, -0.0, 0.0, 1e-300, 1e-8, 0.3, 1.0, 2.0, 9.5, 40.0, 800.0, np.inf, np.nan]
)
POSITIVE = NUMBERS[6:-2]


def computed(name: str, *operands: np.ndarray) -> np.ndarray:
    size = operands[0].size
    memory = np.concatenate([*operands, np.zeros(size)])
    places = [np.arange(i * size, (i + 1) * size, dtype=np.int32) for i in range(len(operands) + 1)]
    first, second, third = (*places[:-1], *([places[0]] * 2))[:3]
    compute(np.full(size, CODES[name], np.int32), first, second, third, places[-1], memory)
    return memory[-size:]


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name):
    """Equal to the last digits; the digamma and gamma functions where the parameters of laws are, above zero."""
    function = getattr(np, name, None) or getattr(special, name)
    numbers = POSITIVE if name in ("gammaln", "psi") else NUMBERS
    left, right = (part.reshape(-1) for part in np.meshgrid(numbers, numbers))
    with np.errstate(all="ignore"):
        if name == "where":
            condition = (left > 0).astype(float)
            np.testing.assert_array_equal(computed(name, condition, left, right), np.where(condition, left, right))
            return
        if isinstance(function, np.ufunc) and function.nin == 1:
            left = left[: len(numbers) ** 2]
            operands: tuple[np.ndarray, ...] = (left,)
        else:
            operands = (left, right)
        if name.startswith("logical"):
            operands = tuple((operand > 0).astype(float) for operand in operands)
        expected = function(*operands).astype(float)
    np.testing.assert_allclose(computed(name, *operands), expected, rtol=2e-14, atol=0.0)
