"""Torch's operations by numpy: on a few numbers each of them costs a third of what torch takes to begin.

The table is of the operations that recorded log densities are made of, by the names and argument orders of torch's own
schemas; a tape that holds any other operation is played by torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import special

Array = Any
aten = torch.ops.aten


def _expand(x: Array, shape: Sequence[int], implicit: bool = False) -> Array:
    lead = (1,) * (len(shape) - x.ndim) + x.shape
    return np.broadcast_to(x, [old if new == -1 else new for new, old in zip(shape, lead, strict=True)])


def _sum(x: Array, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Array:
    axis = None if dim is None or len(dim) == 0 else tuple(dim)
    return np.add.reduce(x, axis=axis, keepdims=keepdim)


def _squeeze(x: Array, dim: int) -> Array:
    return x.squeeze(dim) if x.ndim and x.shape[dim] == 1 else x


def _softmax(x: Array, dim: int, half: bool) -> Array:
    weights = np.exp(x - np.maximum.reduce(x, axis=dim, keepdims=True))
    return weights / np.add.reduce(weights, axis=dim, keepdims=True)


def _softmax_backward(gradient: Array, y: Array, dim: int, dtype: Any) -> Array:
    weighted = gradient * y
    return weighted - y * np.add.reduce(weighted, axis=dim, keepdims=True)


def _logsumexp(x: Array, dim: Sequence[int], keepdim: bool = False) -> Array:
    top = np.maximum.reduce(x, axis=tuple(dim), keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    total = np.log(np.add.reduce(np.exp(x - top), axis=tuple(dim), keepdims=True)) + top
    return total if keepdim else total.squeeze(tuple(dim))


def _select(x: Array, dim: int, index: int) -> Array:
    return x[(slice(None),) * (dim % x.ndim) + (index, ...)]


def _slice(x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    return x[(slice(None),) * (dim % x.ndim) + (slice(start, end, step),)]


def _select_backward(gradient: Array, shape: Sequence[int], dim: int, index: int) -> Array:
    result = np.zeros(shape)
    result[(slice(None),) * (dim % len(shape)) + (index,)] = gradient
    return result


def _slice_backward(gradient: Array, shape: Sequence[int], dim: int, start: int, end: int, step: int) -> Array:
    result = np.zeros(shape)
    result[(slice(None),) * (dim % len(shape)) + (slice(start, end, step),)] = gradient
    return result


def _split(x: Array, sizes: Sequence[int], dim: int = 0) -> list[Array]:
    bounds = np.cumsum([0, *sizes]).tolist()
    return [_slice(x, dim, first, last) for first, last in zip(bounds[:-1], bounds[1:], strict=True)]


def _index(x: Array, indices: Sequence[Any]) -> Array:
    return x[tuple(slice(None) if index is None else index for index in indices)]


def _clamp(x: Array, low: Any = None, high: Any = None) -> Array:
    return np.clip(x, low, high)


def _full(x: Array, value: Any = 0.0, **options: Any) -> Array:
    return np.full(x.shape, value, np.float64)


def _zeros(x: Array, shape: Any = None, **options: Any) -> Array:
    return np.zeros(x.shape if shape is None else shape)


def _cat(parts: Sequence[Array], dim: int = 0) -> Array:
    return np.concatenate(parts, axis=dim)


def _stack(parts: Sequence[Array], dim: int = 0) -> Array:
    return np.stack(parts, axis=dim)


def _copy_into(x: Array, y: Array, non_blocking: bool = False) -> Array:
    np.copyto(x, y)
    return x


def _put(x: Array, indices: Sequence[Any], values: Array, accumulate: bool = False) -> Array:
    place: Any = tuple(slice(None) if index is None else index for index in indices)
    if accumulate:
        np.add.at(x, place, values)
    else:
        x[place] = values
    return x


def _strided(x: Array, shape: Sequence[int], strides: Sequence[int], offset: int | None = None) -> Array:
    flat = x.reshape(-1)[offset or 0 :]
    return np.lib.stride_tricks.as_strided(flat, tuple(shape), [flat.itemsize * n for n in strides])


def _filled(x: Array, value: Any) -> Array:
    x[...] = value
    return x


def _chosen(x: Array, dim: int, index: Any) -> Any:
    """The place of an index along one dim."""
    return (slice(None),) * (dim % x.ndim) + (index,)


def _with(x: Array, dim: int, index: Any, value: Any) -> Array:
    result = x.copy()
    result[_chosen(x, dim, index)] = value
    return result


def _index_add(x: Array, dim: int, index: Any, source: Array, *, alpha: Any = 1) -> Array:
    result = x.copy()
    np.add.at(result, _chosen(x, dim, index), source if alpha == 1 else source * alpha)
    return result


def scattered(shape: Sequence[int], dim: int, index: np.ndarray) -> tuple[Any, tuple[slice, ...]]:
    """Where scatter puts the entries of its source: the place in the result, and the part of the source."""
    place: list[Any] = list(np.indices(index.shape))
    place[dim % len(shape)] = index
    return tuple(place), tuple(slice(0, size) for size in index.shape)


def gathered(x: Array, dim: int, index: np.ndarray) -> Array:
    """The entries that an index names along one dim; in the others it may be shorter."""
    part = tuple(slice(None) if axis == dim % x.ndim else slice(0, size) for axis, size in enumerate(index.shape))
    return np.take_along_axis(x[part], index, dim)


def _scatter_add(x: Array, dim: int, index: Any, source: Array) -> Array:
    result = x.copy()
    place, part = scattered(x.shape, dim, index)
    np.add.at(result, place, source[part])
    return result


def _softplus(x: Array, beta: Any = 1, threshold: Any = 20) -> Array:
    scaled = x * beta
    return np.where(scaled > threshold, x, np.log1p(np.exp(scaled)) / beta)


def _softplus_backward(gradient: Array, x: Array, beta: Any, threshold: Any) -> Array:
    scaled = x * beta
    return gradient * np.where(scaled > threshold, 1.0, special.expit(scaled))


def _extreme(function: np.ufunc) -> Callable[..., Array]:
    """amax or amin."""

    def of_dims(x: Array, dim: Sequence[int] = (), keepdim: bool = False) -> Array:
        return function.reduce(x, axis=tuple(dim) or None, keepdims=keepdim)

    return of_dims


def _in_place(function: Callable[..., Array]) -> Callable[..., Array]:
    """The same, written over the first argument."""

    def over(x: Array, *others: Any, **options: Any) -> Array:
        x[...] = function(x, *others, **options)
        return x

    return over


def _linear(operation: Callable[..., Array]) -> Callable[..., Array]:
    """add or sub, whose second argument torch can multiply first."""

    def by_alpha(x: Array, y: Array, *, alpha: Any = 1) -> Array:
        return operation(x, y if alpha == 1 else y * alpha)

    return by_alpha


BY_NUMPY: dict[Any, Callable[..., Any]] = {
    aten.detach.default: lambda x: x,
    aten.alias.default: lambda x: x,
    aten.lift_fresh.default: lambda x: x,
    aten.neg.default: np.negative,
    aten.exp.default: np.exp,
    aten.log.default: np.log,
    aten.log1p.default: np.log1p,
    aten.expm1.default: np.expm1,
    aten.sqrt.default: np.sqrt,
    aten.abs.default: np.abs,
    aten.sgn.default: np.sign,
    aten.sign.default: np.sign,
    aten.reciprocal.default: np.reciprocal,
    aten.sigmoid.default: special.expit,
    aten.tanh.default: np.tanh,
    aten.lgamma.default: special.gammaln,
    aten.digamma.default: special.psi,
    aten.mul.Tensor: np.multiply,
    aten.mul.Scalar: np.multiply,
    aten.div.Tensor: np.true_divide,
    aten.div.Scalar: np.true_divide,
    aten.add.Tensor: _linear(np.add),
    aten.add.Scalar: lambda x, y, alpha=1: x + (y if alpha == 1 else y * alpha),
    aten.mul_.Tensor: _in_place(np.multiply),
    aten.logical_and_.default: _in_place(np.logical_and),
    aten.pow_.Scalar: _in_place(np.power),
    aten.logaddexp.default: np.logaddexp,
    aten.sin.default: np.sin,
    aten.cos.default: np.cos,
    aten.special_i0e.default: special.i0e,
    aten.special_i1e.default: special.i1e,
    aten.softplus.default: _softplus,
    aten.softplus_backward.default: _softplus_backward,
    aten.amax.default: _extreme(np.maximum),
    aten.amin.default: _extreme(np.minimum),
    aten.tril.default: lambda x, diagonal=0: np.where(np.tril(np.ones(x.shape, bool), diagonal), x, 0.0),
    aten._is_all_true.default: np.all,
    aten.sub.Tensor: _linear(np.subtract),
    aten.sub.out: lambda x, y, *, alpha=1, out: _copy_into(out, x - y if alpha == 1 else x - y * alpha),
    aten.rsub.Scalar: lambda x, y, alpha=1: y - x * alpha,
    aten.pow.Tensor_Scalar: np.power,
    aten.maximum.default: np.maximum,
    aten.minimum.default: np.minimum,
    aten.xlogy.Tensor: special.xlogy,
    aten.xlogy.Scalar_Other: special.xlogy,
    aten.xlogy.Scalar_Self: special.xlogy,
    aten.addcmul.default: lambda x, a, b, *, value=1: x + (a * b if value == 1 else a * b * value),
    aten.sigmoid_backward.default: lambda gradient, y: gradient * y * (1.0 - y),
    aten.tanh_backward.default: lambda gradient, y: gradient * (1.0 - y * y),
    aten.where.self: np.where,
    aten.where.ScalarOther: np.where,
    aten.where.ScalarSelf: np.where,
    aten.masked_fill.Scalar: lambda x, mask, value: np.where(mask, value, x),
    aten.masked_fill.Tensor: lambda x, mask, value: np.where(mask, value, x),
    aten.logical_not.default: np.logical_not,
    aten.logical_and.default: np.logical_and,
    aten.logical_or.default: np.logical_or,
    aten.bitwise_and.Tensor: np.bitwise_and,
    aten.bitwise_or.Tensor: np.bitwise_or,
    aten.bitwise_not.default: np.invert,
    aten.isfinite.default: np.isfinite,
    aten.isnan.default: np.isnan,
    aten.all.default: np.all,
    aten.any.default: np.any,
    aten._local_scalar_dense.default: lambda x: x.item(),
    aten.sum.default: _sum,
    aten.sum.dim_IntList: _sum,
    aten.logsumexp.default: _logsumexp,
    aten.cumsum.default: lambda x, dim: np.cumsum(x, axis=dim),
    aten._softmax.default: _softmax,
    aten._softmax_backward_data.default: _softmax_backward,
    aten.mm.default: np.matmul,
    aten.bmm.default: np.matmul,
    aten.mv.default: np.matmul,
    aten.dot.default: np.dot,
    aten.t.default: np.transpose,
    aten.transpose.int: np.swapaxes,
    aten.permute.default: np.transpose,
    aten.view.default: lambda x, shape: x.reshape(shape),
    aten._unsafe_view.default: lambda x, shape: x.reshape(shape),
    aten.expand.default: _expand,
    aten.unsqueeze.default: np.expand_dims,
    aten.squeeze.default: lambda x: x.squeeze(),
    aten.squeeze.dim: _squeeze,
    aten.squeeze_.dim: _squeeze,
    aten.select.int: _select,
    aten.slice.Tensor: _slice,
    aten.select_backward.default: _select_backward,
    aten.slice_backward.default: _slice_backward,
    aten.split_with_sizes.default: _split,
    aten.unbind.int: lambda x, dim=0: list(np.moveaxis(x, dim, 0)),
    aten.index.Tensor: _index,
    aten.index_select.default: lambda x, dim, index: x[_chosen(x, dim, index)],
    aten.index_fill.int_Scalar: _with,
    aten.index_copy.default: _with,
    aten.index_add.default: _index_add,
    aten.scatter_add.default: _scatter_add,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.clamp.default: _clamp,
    aten.clamp_min.default: _clamp,
    aten.clone.default: lambda x, memory_format=None: np.array(x),
    aten.full_like.default: _full,
    aten.zeros_like.default: _zeros,
    aten.ones_like.default: lambda x, **options: np.ones(x.shape),
    aten.new_zeros.default: _zeros,
    aten.zeros.default: lambda shape, **options: np.zeros(shape),
    aten.ones.default: lambda shape, **options: np.ones(shape),
    aten.copy_.default: _copy_into,
    aten.fill_.Scalar: _filled,
    aten.fill_.Tensor: _filled,
    aten.zero_.default: lambda x: _filled(x, 0.0),
    aten.index_put_.default: _put,
    aten.index_put.default: lambda x, *arguments, **options: _put(x.copy(), *arguments, **options),
    aten.as_strided.default: _strided,
    aten.new_empty_strided.default: lambda x, shape, strides, **options: np.zeros(shape),
    aten.flip.default: lambda x, dims: np.flip(x, tuple(dims)),
    aten.diagonal.default: lambda x, offset=0, dim1=0, dim2=1: np.diagonal(x, offset, dim1, dim2),
    aten.gather.default: gathered,
}
for _compare in ("gt", "ge", "lt", "le", "eq", "ne"):
    _by_numpy = {"gt": np.greater, "ge": np.greater_equal, "lt": np.less, "le": np.less_equal}.get(
        _compare, np.equal if _compare == "eq" else np.not_equal
    )
    for _kind in ("Scalar", "Tensor"):
        BY_NUMPY[getattr(getattr(aten, _compare), _kind)] = _by_numpy
