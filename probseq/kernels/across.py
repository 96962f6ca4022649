"""From the lanes of a register to one number, and between lanes and matrices: sums, peaks, products, best moves."""

from __future__ import annotations

from llvmlite import ir
from numba import types

from probseq.kernels.jit import intrinsic
from probseq.kernels.lanes import _INT, _LONG, _larger, _multiply_add, _pointer, _shuffle


def _pairwise(values: list, combine):
    """Combine a list into one value by pairs, the shortest chain of dependent operations."""
    while len(values) > 1:
        pairs = [combine(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[2 * len(pairs) :]
    return values[0]


def _fold(builder, vector, combine):
    """One scalar out of all lanes."""
    step = min(8, vector.type.count)
    parts = [_shuffle(builder, vector, vector, list(range(c, c + step))) for c in range(0, vector.type.count, step)]
    vector = _pairwise(parts, combine)
    while vector.type.count > 1:
        half = vector.type.count // 2
        vector = combine(*(_shuffle(builder, vector, vector, list(range(i, i + half))) for i in (0, half)))
    return builder.extract_element(vector, _INT(0))


@intrinsic
def total(typing_context, lanes):
    """Sum of all lanes."""

    def generate(context, builder, signature, arguments):
        return _fold(builder, arguments[0], builder.fadd)

    return types.float64(lanes), generate


@intrinsic
def peak(typing_context, lanes):
    """Largest of all lanes."""

    def generate(context, builder, signature, arguments):
        return _fold(builder, arguments[0], lambda a, b: _larger(builder, a, b))

    return types.float64(lanes), generate


@intrinsic
def product(typing_context, lanes, matrices, offset):
    """sum_i lanes(i) * row i of the padded (width, width) matrix that starts at offset."""

    def generate(context, builder, signature, arguments):
        width, chains = lanes.width, min(4, lanes.width // 2)
        sums: list = [None] * chains
        for i in range(lanes.width):
            start = builder.add(arguments[2], _LONG(i * width))
            row = builder.load(_pointer(context, builder, matrices, arguments[1], start, width), align=8)
            scale = _shuffle(builder, arguments[0], arguments[0], [i] * width)
            chain = i % chains
            if sums[chain] is None:
                sums[chain] = builder.fmul(scale, row)
            else:
                sums[chain] = _multiply_add(builder, scale, row, sums[chain])
        return _pairwise([s for s in sums if s is not None], builder.fadd)

    return lanes(lanes, matrices, types.int64), generate


@intrinsic
def add_outer(typing_context, matrices, offset, a, b):
    """Add a(i) b(j) to the padded (width, width) matrix that starts at offset."""

    def generate(context, builder, signature, arguments):
        for i in range(a.width):
            start = builder.add(arguments[1], _LONG(i * a.width))
            pointer = _pointer(context, builder, matrices, arguments[0], start, a.width)
            scale = _shuffle(builder, arguments[2], arguments[2], [i] * a.width)
            row = _multiply_add(builder, scale, arguments[3], builder.load(pointer, align=8))
            builder.store(row, pointer, align=8)
        return context.get_dummy_value()

    return types.void(matrices, types.int64, a, b), generate


@intrinsic
def best_move(typing_context, lanes, matrices, offset, back, place):
    """max_i (lane i + row i) of the padded matrix at offset; the i of each lane goes to the bytes at back[place:].

    A tie goes to the lower i.
    """

    def generate(context, builder, signature, arguments):
        width = lanes.width
        small = ir.VectorType(ir.IntType(8), width)
        options = []
        for i in range(width):
            start = builder.add(arguments[2], _LONG(i * width))
            row = builder.load(_pointer(context, builder, matrices, arguments[1], start, width), align=8)
            here = _shuffle(builder, arguments[0], arguments[0], [i] * width)
            options.append((builder.fadd(here, row), ir.Constant(small, [i] * width)))

        def better(low, high):
            wins = builder.fcmp_ordered(">", high[0], low[0])
            return builder.select(wins, high[0], low[0]), builder.select(wins, high[1], low[1])

        best, places = _pairwise(options, better)
        there = builder.gep(arguments[3], [arguments[4]])
        builder.store(places, builder.bitcast(there, small.as_pointer()), align=1)
        return best

    return lanes(lanes, matrices, types.int64, back, types.int64), generate
