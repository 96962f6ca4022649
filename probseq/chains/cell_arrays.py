"""Arrays of places of numbers, on which numpy's functions write down instructions instead of computing.

What moves numbers about moves their places, and is gone; what computes becomes instructions, one for each number
(`probseq.kernels.cells`). An operation on the same places is written down once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch.utils._pytree import tree_map

from probseq.chains.tape import NotRecordable
from probseq.chains.tape_arrays import BY_NUMPY, aten, gathered, scattered
from probseq.kernels.cell_codes import CODES

MOST = 1 << 14
"""Instructions up to which single numbers are the quicker way; arrays of many numbers are better left whole."""

_SAME = {"conjugate": "", "bitwise_and": "logical_and", "bitwise_or": "logical_or", "invert": "logical_not"}
_SAME |= {"true_divide": "divide"}
_MOVING = {"reshape", "transpose", "swapaxes", "expand_dims", "squeeze", "broadcast_to", "moveaxis", "flip", "diagonal"}
_MOVING |= {"concatenate", "stack"}


Run = tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""An operation, and the places of its three operands (what it does not take is the first again) and of its results."""


class TooMany(Exception):
    """Numbers are too many to be computed one by one."""


class Cells(np.ndarray):
    """Places of numbers in the memory of a `Builder`."""

    builder: Builder

    def __array_finalize__(self, other: Any) -> None:
        self.builder = getattr(other, "builder", None)  # type: ignore[assignment]

    def __array_ufunc__(self, function: Any, method: str, *given: Any, **options: Any) -> Any:
        if method == "reduce":
            return self.builder.reduce(function, given[0], **options)
        if method != "__call__" or options:
            raise NotRecordable(f"{function.__name__} is not arithmetic on single numbers")
        if function is np.matmul:
            return self.builder.product(*given)
        return self.builder.apply(function.__name__, *given)

    def __array_function__(self, function: Any, types: Any, given: Any, options: Any) -> Any:
        name, builder = function.__name__, self.builder
        if name in _MOVING:
            return builder.moved(function, given, options)
        if name == "where":
            return builder.apply("where", *given)
        if name in ("all", "any"):
            return builder.reduce(np.logical_and if name == "all" else np.logical_or, given[0], axis=None)
        if name == "clip":
            low, high = (*given[1:], None, None)[:2]
            raised = given[0] if low is None else builder.apply("maximum", given[0], low)
            return raised if high is None else builder.apply("minimum", raised, high)
        raise NotRecordable(f"numpy's {name} is not arithmetic on single numbers")


@dataclass(eq=False)
class Builder:
    """Instructions so far.

    Attributes:
        size: of the memory.
        known: number, as its bits -> its place.
        code: the runs of instructions since the last stage.
        done: operation and operands -> places of the results.
        count: of instructions.
    """

    size: int = 0
    known: dict[int, int] = field(default_factory=dict)
    code: list[Run] = field(default_factory=list)
    done: dict[Any, np.ndarray] = field(default_factory=dict)
    count: int = 0

    def new(self, shape: Sequence[int]) -> Cells:
        """Places for so many numbers."""
        number = int(np.prod(shape))
        self.size += number
        return self.cells(np.arange(self.size - number, self.size).reshape(shape))

    def cells(self, places: np.ndarray) -> Cells:
        result = np.asarray(places, np.int64).view(Cells)
        result.builder = self
        return result

    def of(self, value: Any) -> np.ndarray:
        """Places of numbers, those of data among them; a copy, which nothing writes to."""
        if isinstance(value, Cells):
            return np.array(value)
        bits = np.asarray(value, np.float64)
        distinct, which = np.unique(bits.reshape(-1).view(np.int64), return_inverse=True)
        places = np.array([self._place(number) for number in distinct.tolist()], np.int64)
        return places[which].reshape(bits.shape)

    def _place(self, bits: int) -> int:
        if bits not in self.known:
            self.known[bits] = self.size
            self.size += 1
        return self.known[bits]

    def apply(self, name: str, *given: Any) -> Cells:
        """An operation, number by number."""
        name = _SAME.get(name, name)
        if name not in CODES:
            raise NotRecordable(f"{name} has no instruction")
        operands = np.broadcast_arrays(*(self.of(value) for value in given))
        shape, flat = operands[0].shape, [operand.reshape(-1) for operand in operands]
        kept = self._unchanged(name, flat)
        if kept is not None:
            return self.cells(kept.reshape(shape).copy())
        key = (name, *(operand.tobytes() for operand in flat))
        if key not in self.done:
            self.done[key] = self.new([flat[0].size]).view(np.ndarray)
            first, second, third = (*flat, *([flat[0]] * 2))[:3]
            self.code.append((CODES[name], first, second, third, self.done[key]))
            self.count += flat[0].size
            if self.count > MOST:
                raise TooMany
        return self.cells(self.done[key].reshape(shape).copy())

    def _unchanged(self, name: str, given: list[np.ndarray]) -> np.ndarray | None:
        """The first operand, or the other, of an operation that leaves it as it is."""
        neutral = {"add": 0.0, "subtract": 0.0, "multiply": 1.0, "divide": 1.0, "power": 1.0}.get(name)
        if neutral is None:
            return None
        place = int(self.of(neutral))
        if (given[1] == place).all():
            return given[0]
        return given[1] if name in ("add", "multiply") and (given[0] == place).all() else None

    def reduce(self, function: Any, x: Any, axis: Any = 0, keepdims: bool = False, **options: Any) -> Cells:
        """Sums and the like over dims, by halves."""
        if any(value is not None for value in options.values()):
            raise NotRecordable(f"{function.__name__}.reduce with options")
        places = self.of(x)
        axes = tuple(range(places.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
        for one in sorted(one % places.ndim for one in axes):
            places = np.moveaxis(self._halved(function.__name__, np.moveaxis(places, one, 0)), 0, one)
        left = places if keepdims else places.squeeze(tuple(axes))
        return self.cells(left)

    def _halved(self, name: str, rows: np.ndarray) -> np.ndarray:
        if len(rows) == 0:
            if name != "add":
                raise NotRecordable(f"{name} of nothing")
            return np.broadcast_to(self.of(0.0), (1, *rows.shape[1:]))
        while len(rows) > 1:
            half = len(rows) // 2
            pairs = self.apply(name, self.cells(rows[:half]), self.cells(rows[half : 2 * half])).view(np.ndarray)
            rows = np.concatenate([pairs, rows[2 * half :]])
        return rows

    def product(self, a: Any, b: Any) -> Cells:
        """The matrix product."""
        left, right = self.of(a), self.of(b)
        if left.ndim < 2:
            raise NotRecordable("a product of a vector")
        if right.ndim == 1:
            return self.reduce(np.add, self.apply("multiply", self.cells(left), self.cells(right)), axis=-1)
        terms = self.apply("multiply", self.cells(left[..., :, None]), self.cells(right[..., None, :, :]))
        return self.reduce(np.add, terms, axis=-2)

    def _seen(self, part: Any) -> Any:
        """Places that can be written to through what is made of them."""
        if isinstance(part, Cells):
            return part.view(np.ndarray)
        return self.of(part) if isinstance(part, np.ndarray) else part

    def taken(self) -> list[Run]:
        """The instructions since the last call."""
        runs, self.code = self.code, []
        return runs

    def constant(self, shape: Any, value: float = 0.0) -> Cells:
        """Numbers that may be written over."""
        return self.cells(np.broadcast_to(self.of(value), tuple(shape)).copy())

    def put(self, x: Any, place: Any, value: Any) -> Cells:
        """x with values at an index, in place."""
        if not isinstance(x, Cells):
            raise NotRecordable("numbers from outside are written to")
        x[place] = self.cells(self.of(value))
        return x

    def added(self, x: Cells, place: Any, values: Any) -> Cells:
        """x with values added at an index, in place; as often as an entry is named."""
        named = np.arange(x.size).reshape(x.shape)[place]
        flat, terms = x.reshape(-1), np.broadcast_to(self.of(values), named.shape).reshape(-1)
        for entry, term in zip(named.reshape(-1).tolist(), terms, strict=True):
            flat[entry] = self.apply("add", flat[entry : entry + 1], self.cells(term[None]))[0]
        return self.put(x, (...,), flat.reshape(x.shape))

    def moved(self, function: Any, given: Any, options: Any) -> Any:
        """What a function that only moves numbers does to their places."""
        given = tree_map(self._seen, given)
        found = function(*given, **options)
        return tree_map(self.cells, found) if isinstance(found, list | tuple) else self.cells(found)


def functions(builder: Builder) -> Mapping[Any, Callable[..., Any]]:
    """The table of `tape_arrays`, but for what makes arrays, writes to them or looks at numbers."""
    zeros, put = builder.constant, builder.put

    def into(shape: Any, dim: int, place: Any, gradient: Any) -> Any:
        return put(zeros(shape), (slice(None),) * (dim % len(shape)) + (place,), gradient)

    def scanned(x: Any, dim: int) -> Any:
        rows = list(np.moveaxis(builder.of(x), dim, 0))
        for i in range(1, len(rows)):
            rows[i] = builder.of(builder.apply("add", builder.cells(rows[i - 1]), builder.cells(rows[i])))
        return builder.cells(np.stack(rows, dim))

    def strided(x: Any, *place: Any) -> Any:
        return builder.cells(BY_NUMPY[aten.as_strided.default](x.view(np.ndarray), *place))

    return {
        **BY_NUMPY,
        **_by_index(builder),
        aten._local_scalar_dense.default: lambda x: x,
        aten.full_like.default: lambda x, value=0.0, **options: zeros(x.shape, value),
        aten.zeros_like.default: lambda x, **options: zeros(x.shape),
        aten.ones_like.default: lambda x, **options: zeros(x.shape, 1.0),
        aten.new_zeros.default: lambda x, shape, **options: zeros(shape),
        aten.zeros.default: lambda shape, **options: zeros(shape),
        aten.ones.default: lambda shape, **options: zeros(shape, 1.0),
        aten.new_empty_strided.default: lambda x, shape, strides, **options: zeros(shape),
        aten.clone.default: lambda x, memory_format=None: builder.cells(builder.of(x)),
        aten.copy_.default: lambda x, y, non_blocking=False: put(x, (...,), y),
        aten.sub.out: lambda x, y, *, alpha=1, out: put(out, (...,), x - y if alpha == 1 else x - y * alpha),
        aten.fill_.Scalar: lambda x, value: put(x, (...,), value),
        aten.fill_.Tensor: lambda x, value: put(x, (...,), value),
        aten.zero_.default: lambda x: put(x, (...,), 0.0),
        aten.select_backward.default: lambda gradient, shape, dim, i: into(shape, dim, i, gradient),
        aten.slice_backward.default: lambda gradient, shape, dim, *bounds: into(shape, dim, slice(*bounds), gradient),
        aten.as_strided.default: strided,
        aten.cumsum.default: scanned,
    }


def _by_index(builder: Builder) -> Mapping[Any, Callable[..., Any]]:
    """The part of the table that has to do with indices, which must be data."""

    def copied(x: Any) -> Cells:
        return builder.cells(builder.of(x))

    def along(x: Any, dim: int, index: Any) -> Any:
        return (slice(None),) * (dim % x.ndim) + (index,)

    def placed(indices: Sequence[Any]) -> tuple[Any, ...]:
        if any(isinstance(index, Cells) for index in indices):
            raise NotRecordable("an index depends on the input")
        return tuple(slice(None) if index is None else index for index in indices)

    def put_at(x: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Any:
        return (builder.added if accumulate else builder.put)(x, placed(indices), values)

    def with_values(x: Any, dim: int, index: Any, values: Any) -> Any:
        return builder.put(copied(x), placed(along(x, dim, index)), values)

    def index_added(x: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
        place = placed(along(x, dim, index))
        return builder.added(copied(x), place, source if alpha == 1 else source * alpha)

    def scatter_added(x: Any, dim: int, index: Any, source: Any) -> Any:
        place, part = scattered(x.shape, dim, *placed([index]))
        return builder.added(copied(x), place, builder.cells(builder.of(source)[part]))

    return {
        aten.index.Tensor: lambda x, indices: x[placed(indices)],
        aten.index_select.default: lambda x, dim, index: x[placed(along(x, dim, index))],
        aten.index_put_.default: put_at,
        aten.index_put.default: lambda x, *rest, **options: put_at(copied(x), *rest, **options),
        aten.index_fill.int_Scalar: with_values,
        aten.index_copy.default: with_values,
        aten.index_add.default: index_added,
        aten.scatter_add.default: scatter_added,
        aten.gather.default: lambda x, dim, index: builder.cells(gathered(builder.of(x), dim, *placed([index]))),
    }
