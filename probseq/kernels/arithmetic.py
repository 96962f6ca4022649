"""The same functions in three arithmetics, chosen when their caller is compiled by the type of `shape`, the first.

A tuple of `width` zeros means `scaled` doubles in registers; a tuple of one number, the width, means memory: of scaled
doubles if it is whole (`wide`), of numbers of unlimited range if it is a float (`exact`).
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import overload

from probseq.kernels import exact, scaled, wide
from probseq.kernels.lanes import WIDEST, lanes_for


def scaled_shape(states: int) -> Any:
    """The shape of scaled messages."""
    return lanes_for(states) if states <= WIDEST else ((states + 15) // 16 * 16,)


def exact_shape(states: int) -> Any:
    """The shape of exact messages."""
    return (float((states + 7) // 8 * 8),)


def by_shape(narrow: Any, wide: Any, exact: Any = None) -> Any:
    """The function that calls one of these kernels, by the type of its first argument."""

    def stub(*arguments):
        raise NotImplementedError("this function is for compiled callers")

    @overload(stub)
    def choose(*arguments):
        shape = arguments[0]
        if isinstance(shape.dtype, types.Float):
            return lambda *arguments: exact(*arguments)
        return (lambda *arguments: wide(*arguments)) if len(shape) == 1 else (lambda *arguments: narrow(*arguments))

    return stub


width_of = by_shape(scaled.width_of, wide.width_of, exact.width_of)
message_size = by_shape(scaled.message_size, wide.message_size, exact.message_size)
matrix_tables = by_shape(scaled.matrix_tables, wide.matrix_tables, exact.matrix_tables)
relative = by_shape(scaled.relative, wide.relative, exact.relative)
start_message = by_shape(scaled.start_message, wide.start_message, exact.start_message)
advance = by_shape(scaled.advance, wide.advance, exact.advance)
sweep = by_shape(scaled.sweep, wide.sweep, exact.sweep)
predict = by_shape(scaled.predict, wide.predict)
plain = by_shape(scaled.plain, wide.plain, exact.plain)
weigh = by_shape(scaled.weigh, wide.weigh, exact.weigh)
unit = by_shape(scaled.unit, wide.unit, exact.unit)
finish = by_shape(scaled.finish, wide.finish, exact.finish)
