"""The arithmetic that a pass uses: a table of addresses of machine code, so that the passes are compiled once for all.

A kit (11,) holds the padded number of states, the doubles that a message takes, and the addresses of the functions in
SIGNATURES: of scaled doubles (`messages`), with hot loops for the width in question (`scaled`, or `wide` beyond 32
states), or of numbers of unlimited range (`exact`). Those functions take and give numbers and pointers only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numpy.typing import NDArray

from probseq.kernels import combinations, exact, messages, scaled, wide
from probseq.kernels.inputs import read_only
from probseq.kernels.jit import by_shape, intrinsic, native
from probseq.kernels.lanes import WIDEST, lanes_for

_F, _N = types.float64, types.int64
_FS, _NS = types.CPointer(_F), types.CPointer(_N)
_BLOCK = (_N, _FS, _NS, _NS, _FS, _FS, _FS)

# Each takes the padded number of states first.
SIGNATURES = {
    "tables": _F(_N, _FS, _N, _N, _FS, _FS),
    "relative": _F(_N, _FS, _N, _N, _N, _FS, _FS),
    "start": _F(_N, _FS, _N, _N, _FS, _FS),
    "advance": _F(_N, _N, _N, _N, _FS, *_BLOCK, _FS),
    "sweep": _F(_N, _N, _N, _FS, _FS, *_BLOCK, _FS, _F, _FS, _N, _FS, _N, _N, _FS, _N, *_BLOCK, _FS),
    "plain": _F(_N, _FS, _N, _FS),
    "weigh": _F(_N, _FS, _N, _FS, _N, _FS),
    "unit": _F(_N, _N, _FS),
    "finish": _F(_N, _FS, _N, _N, _N, _FS, _FS),
    "combine": _F(_N, _FS, _N, _FS, _N, _N, _N, _FS),
    "gather": _F(_N, _FS, _N, _N, _N, _FS, _N, _FS),
}
_PLACE = {name: 2 + i for i, name in enumerate(SIGNATURES)}
_ALIVE: list[Any] = []


def shape_for(states: int) -> tuple[int, ...]:
    """What tells the hot loops how a message of K states is laid out: lanes, or (width,) in memory."""
    return lanes_for(states) if states <= WIDEST else ((states + 15) // 16 * 16,)


def width_for(shape: tuple[int, ...]) -> int:
    """Padded number of states."""
    return shape[0] if len(shape) == 1 else len(shape)


def scaled_kit(states: int) -> NDArray[np.int64]:
    """The kit of scaled messages of K states."""
    return _scaled_kit(shape_for(states))


def exact_kit(states: int) -> NDArray[np.int64]:
    """The kit of exact messages of K states."""
    width = (states + 7) // 8 * 8
    return _kit(width, 2 * width, _exact())


def address_of(signature: Any, function: Callable) -> int:
    """Address of the compiled function, which stays there."""
    compiled = native(signature, function)
    _ALIVE.append(compiled)
    return compiled.address


@cache
def _scaled_kit(shape: tuple[int, ...]) -> NDArray[np.int64]:
    width = width_for(shape)
    loops = {name: address_of(SIGNATURES[name], loop) for name, loop in _loops(shape).items()}
    return _kit(width, width, _messages() | loops)


def _kit(width: int, size: int, addresses: dict[str, int]) -> NDArray[np.int64]:
    return read_only(np.array([width, size, *(addresses[name] for name in SIGNATURES)], np.int64))


@cache
def _messages() -> dict[str, int]:
    return _addresses(messages)


@cache
def _exact() -> dict[str, int]:
    return _addresses(exact) | _addresses(combinations)


def _addresses(module: ModuleType) -> dict[str, int]:
    """Addresses of the functions of a module, which serve every width."""
    found = {name: getattr(module, name, None) for name in SIGNATURES}
    return {name: address_of(SIGNATURES[name], function) for name, function in found.items() if function is not None}


_relative = by_shape(scaled.relative, wide.relative)
_advance = by_shape(scaled.advance, wide.advance)
_sweep = by_shape(scaled.sweep, wide.sweep)
_combine = by_shape(combinations.combine_narrow, combinations.combine_wide)
_gather = by_shape(combinations.gather_narrow, combinations.gather_wide)


def _loops(shape: tuple[int, ...]) -> dict[str, Callable]:
    """The loops whose code depends on the width."""

    def relative(width, log_table, count, first, n, likelihoods, tops):
        _relative(shape, log_table, count, first, n, likelihoods, tops)
        return 0.0

    # fmt: off
    def advance(width, count, direction, begin, matrices, n, source, rows, moves, stored, scales, room, carry):
        block = n, source, rows, moves, stored, scales, room
        return _advance(shape, count, direction, begin, matrices, block, carry)

    def sweep(
        width, direction, begin, ahead, against,
        n, source, rows, moves, stored, scales, room, carry,
        weight, xi, by_row, table, start, count, last,
        next_begin, next_n, next_source, next_rows, next_moves, next_stored, next_scales, next_room, next_carry,
    ):
        block = n, source, rows, moves, stored, scales, room
        following = next_n, next_source, next_rows, next_moves, next_stored, next_scales, next_room
        counts = xi, by_row, table, start, count
        _sweep(
            shape, direction, begin, (ahead, against), block, carry, weight, counts, last,
            next_begin, following, next_carry,
        )
        return 0.0
    # fmt: on

    def combine(width, weights, rows, table, count, first, n, out):
        _combine(shape, weights, rows, table, count, first, n, out)
        return 0.0

    def gather(width, weights, rows, first, n, gammas, count, sums):
        _gather(shape, weights, rows, first, n, gammas, count, sums)
        return 0.0

    return {"relative": relative, "advance": advance, "sweep": sweep, "combine": combine, "gather": gather}


@intrinsic
def invoke(typing_context, address, arguments):
    """Call the function at an address with a tuple of arguments: arrays by their first element, numbers as they are."""

    def generate(context, builder, signature, values):
        passed = []
        for kind, value in zip(arguments.types, cgutils.unpack_tuple(builder, values[1]), strict=True):
            if isinstance(kind, types.Array):
                passed.append(context.make_array(kind)(context, builder, value).data)
            else:
                passed.append(context.cast(builder, value, kind, _F if isinstance(kind, types.Float) else _N))
        function = ir.FunctionType(ir.DoubleType(), [value.type for value in passed])
        return builder.call(builder.inttoptr(values[0], function.as_pointer()), passed)

    return _F(address, arguments), generate
