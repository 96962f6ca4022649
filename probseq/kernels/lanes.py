"""One value per state, in the lanes of a vector register: the arithmetic of the scaled recursions.

Numba has no vector type, and its scalar loops keep a message of K numbers in memory, where each step waits for the
last one to be stored and read back. `Lanes(width)` is a register of that many doubles, which LLVM maps to SSE, AVX2,
AVX-512 or NEON; K states take the next width that the processor likes. The width is given by a tuple of so many zeros,
`shape`, whose type carries its length: functions are compiled once for each width. Offsets count doubles from the
start of a C-contiguous array, or from a pointer.
"""

from __future__ import annotations

import math
import operator

from llvmlite import ir
from numba import types
from numba.extending import models, overload, register_model

from probseq.kernels.bits import LN2_HIGH, LN2_LOW, LOG2_E
from probseq.kernels.jit import intrinsic

WIDEST = 32
"""States that fit the registers; beyond, a loop over memory is faster."""

LOG_FLOOR = -460.0
"""Logarithm of the least positive number that `exponential` returns, about 1e-200."""

_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer, which its low bits then hold

_INT, _LONG, _DOUBLE = ir.IntType(32), ir.IntType(64), ir.DoubleType()


def lanes_for(states: int) -> tuple[int, ...]:
    """The tuple that stands for the narrowest lanes that hold the states: a power of two."""
    return (0,) * max(2, 1 << (states - 1).bit_length())


class Lanes(types.Type):
    """`width` doubles in a register."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Lanes({width})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind) -> None:
        super().__init__(manager, kind, ir.VectorType(_DOUBLE, kind.width))


# Memory -------------------------------------------------------------------------------------------------------------


def _pointer(context, builder, array_type, array, offset, width: int):
    data = (
        array
        if isinstance(array_type, types.CPointer)
        else context.make_array(array_type)(context, builder, array).data
    )
    return builder.bitcast(builder.gep(data, [offset]), ir.VectorType(_DOUBLE, width).as_pointer())


def _first_lanes(builder, count, width: int):
    """The mask of lanes 0 .. count - 1."""
    order = ir.Constant(ir.VectorType(_LONG, width), list(range(width)))
    return builder.icmp_signed("<", order, _splat(builder, count, width))


@intrinsic
def load(typing_context, array, offset, shape):
    """`width` doubles of the array from offset on."""
    kind = Lanes(len(shape))

    def generate(context, builder, signature, arguments):
        values, at, _ = arguments
        return builder.load(_pointer(context, builder, array, values, at, kind.width), align=8)

    return kind(array, types.int64, shape), generate


@intrinsic
def load_row(typing_context, array, offset, count, padding, shape):
    """`count` doubles of the array from offset on, and the scalar `padding` in the other lanes."""
    kind = Lanes(len(shape))

    def generate(context, builder, signature, arguments):
        values, at, size, rest, _ = arguments
        pointer = _pointer(context, builder, array, values, at, kind.width)
        mask, filled = _first_lanes(builder, size, kind.width), _splat(builder, rest, kind.width)
        name = f"llvm.masked.load.v{kind.width}f64.p0"
        return _call(builder, name, filled.type, [pointer, _INT(8), mask, filled])

    return kind(array, types.int64, types.int64, types.float64, shape), generate


@intrinsic
def store(typing_context, array, offset, lanes):
    """Write all lanes to the array from offset on."""

    def generate(context, builder, signature, arguments):
        values, at, row = arguments
        builder.store(row, _pointer(context, builder, array, values, at, lanes.width), align=8)
        return context.get_dummy_value()

    return types.void(array, types.int64, lanes), generate


@intrinsic
def store_row(typing_context, array, offset, count, lanes):
    """Write the first `count` lanes to the array from offset on."""

    def generate(context, builder, signature, arguments):
        values, at, size, row = arguments
        pointer = _pointer(context, builder, array, values, at, lanes.width)
        mask = _first_lanes(builder, size, lanes.width)
        name = f"llvm.masked.store.v{lanes.width}f64.p0"
        _call(builder, name, ir.VoidType(), [row, pointer, _INT(8), mask])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, lanes), generate


# Lane by lane -------------------------------------------------------------------------------------------------------


def _shuffle(builder, first, second, order: list[int]):
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(_INT, len(order)), order))


def _splat(builder, scalar, width: int):
    vector = ir.Constant(ir.VectorType(scalar.type, width), ir.Undefined)
    return _shuffle(builder, builder.insert_element(vector, scalar, _INT(0)), vector, [0] * width)


def _call(builder, name: str, result: ir.Type, arguments: list):
    """Call an LLVM intrinsic function."""
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result, [a.type for a in arguments]), name)
    return builder.call(function, arguments)


def _multiply_add(builder, a, b, c):
    return _call(builder, f"llvm.fmuladd.v{a.type.count}f64", a.type, [a, b, c])


def _lane_wise(name: str):
    @intrinsic
    def operation(typing_context, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, name)(*arguments)

        return a(a, b), generate

    return operation


_add, _subtract, _multiply = _lane_wise("fadd"), _lane_wise("fsub"), _lane_wise("fmul")


@intrinsic
def spread(typing_context, scalar, shape):
    """The scalar in every lane; `shape` is a tuple of `width` zeros, or other lanes."""
    kind = shape if isinstance(shape, Lanes) else Lanes(len(shape))

    def generate(context, builder, signature, arguments):
        return _splat(builder, arguments[0], kind.width)

    return kind(types.float64, shape), generate


@overload(operator.add)
def _plus(a, b):
    if isinstance(a, Lanes) and isinstance(b, Lanes):
        return lambda a, b: _add(a, b)


@overload(operator.sub)
def _minus(a, b):
    if isinstance(a, Lanes) and isinstance(b, Lanes):
        return lambda a, b: _subtract(a, b)


@overload(operator.mul)
def _times(a, b):
    if isinstance(a, Lanes) and isinstance(b, Lanes):
        return lambda a, b: _multiply(a, b)
    if isinstance(a, Lanes) and isinstance(b, types.Float):
        return lambda a, b: _multiply(a, spread(b, a))


@intrinsic
def choose(typing_context, mask, a, b):
    """The lane of a where that of mask is positive, of b elsewhere."""

    def generate(context, builder, signature, arguments):
        test, first, second = arguments
        return builder.select(builder.fcmp_ordered(">", test, ir.Constant(test.type, None)), first, second)

    return a(mask, a, b), generate


@intrinsic
def larger(typing_context, a, b):
    """The larger of two lanes."""

    def generate(context, builder, signature, arguments):
        return _larger(builder, *arguments)

    return a(a, b), generate


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@intrinsic
def all_below(typing_context, lanes, bound):
    """1 if every lane is below a scalar, else 0 (as for a NaN)."""

    def generate(context, builder, signature, arguments):
        below = builder.fcmp_ordered("<", arguments[0], _splat(builder, arguments[1], lanes.width))
        mask = builder.bitcast(below, ir.IntType(lanes.width))
        return builder.zext(builder.icmp_unsigned("==", mask, ir.Constant(mask.type, -1)), _LONG)

    return types.int64(lanes, types.float64), generate


@intrinsic
def any_between(typing_context, lanes, low, high):
    """1 if some lane lies strictly between two scalars, else 0."""

    def generate(context, builder, signature, arguments):
        value = arguments[0]
        above = builder.fcmp_ordered(">", value, _splat(builder, arguments[1], lanes.width))
        below = builder.fcmp_ordered("<", value, _splat(builder, arguments[2], lanes.width))
        mask = builder.bitcast(builder.and_(above, below), ir.IntType(lanes.width))
        return builder.zext(builder.icmp_unsigned("!=", mask, ir.Constant(mask.type, 0)), _LONG)

    return types.int64(lanes, types.float64, types.float64), generate


@intrinsic
def exponential(typing_context, lanes):
    """exp of lanes that are at most zero, to 1 ulp: never under 1e-200 but for -inf, which gives zero.

    exp(x) = 2**n exp(r) with n = round(x / ln 2) and the Taylor polynomial of degree 13 in |r| <= 0.347.
    """

    def generate(context, builder, signature, arguments):
        def constant(value: float):
            return ir.Constant(x.type, [value] * lanes.width)

        x = arguments[0]
        x = _larger(builder, constant(LOG_FLOOR), x)  # keeps a NaN
        shifted = _multiply_add(builder, x, constant(LOG2_E), constant(_ROUND))
        n = builder.fsub(shifted, constant(_ROUND))
        r = _multiply_add(builder, n, constant(-LN2_HIGH), x)
        r = _multiply_add(builder, n, constant(-LN2_LOW), r)
        terms = [constant(1 / math.factorial(k)) for k in range(2, 14)]
        p = _multiply_add(builder, builder.fmul(r, r), _polynomial(builder, terms, r), r)
        scale = _two_to_the(builder, shifted)
        result = _multiply_add(builder, scale, p, scale)
        possible = builder.fcmp_unordered("!=", arguments[0], constant(-math.inf))
        return builder.select(possible, result, constant(0.0))

    return lanes(lanes), generate


@intrinsic
def power_of_two(typing_context, lanes):
    """2**n for lanes of whole numbers n up to 1023; zero for n under -1022."""

    def generate(context, builder, signature, arguments):
        def constant(value: float):
            return ir.Constant(arguments[0].type, [value] * lanes.width)

        low = _larger(builder, constant(-1023.0), arguments[0])
        return _two_to_the(builder, builder.fadd(low, constant(_ROUND)))

    return lanes(lanes), generate


@intrinsic
def exponent_of(typing_context, lanes):
    """The whole n with 2**n <= x < 2**(n + 1), of lanes that hold positive normal numbers."""

    def generate(context, builder, signature, arguments):
        kind = arguments[0].type
        integers = ir.VectorType(_LONG, lanes.width)
        bits = builder.bitcast(arguments[0], integers)
        biased = builder.lshr(bits, ir.Constant(integers, [52] * lanes.width))
        big = builder.or_(biased, ir.Constant(integers, [0x433 << 52] * lanes.width))  # 2**52 + biased, as a float
        return builder.fsub(builder.bitcast(big, kind), ir.Constant(kind, [2.0**52 + 1023.0] * lanes.width))

    return lanes(lanes), generate


def _two_to_the(builder, shifted):
    """2**n from lanes of n + _ROUND, whose low bits hold n."""
    width = shifted.type.count
    integers = ir.VectorType(_LONG, width)
    exponent = builder.add(builder.bitcast(shifted, integers), ir.Constant(integers, [1023] * width))
    return builder.bitcast(builder.shl(exponent, ir.Constant(integers, [52] * width)), shifted.type)


def _polynomial(builder, coefficients: list, x):
    """Constant first; by Estrin's scheme, so that the chain of dependent operations is short."""
    while len(coefficients) > 1:
        pairs = zip(coefficients[::2], coefficients[1::2], strict=False)
        odd = coefficients[-1:] if len(coefficients) % 2 else []
        coefficients = [_multiply_add(builder, x, high, low) for low, high in pairs] + odd
        x = builder.fmul(x, x)
    return coefficients[0]
