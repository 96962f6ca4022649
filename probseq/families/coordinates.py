"""Named parameters as one unconstrained vector and back, for gradient methods and samplers; no number is redundant.

A row of m free probabilities takes m - 1 coordinates, the isometric log-ratio of Egozcue et al. (2003): the row is the
softmax of V u, where V (m, m - 1) has orthonormal columns that sum to zero. A zero stays a zero. Everything else goes
by torch's bijection onto its constraint. What is known takes no coordinates: the free entries of a row share what the
known ones leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import IndependentTransform

from probseq.errors import ModelError
from probseq.families.family import Parameter

FAR = 30.0
"""A value on the boundary of its constraint starts this far out."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The map between a vector (P,) and named parameters, made around an example.

    Args:
        declared: name -> constraint, for every parameter that moves.
        example: values by name; where a probability is zero it stays so.
        known: name -> values of the parameter's shape that are given, NaN where an entry is free.
    """

    declared: Mapping[str, Parameter]
    example: Mapping[str, Tensor]
    known: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """name -> its part of the vector, empty where all of it is known."""
        result, at = {}, 0
        for part in self._parts:
            result[part.name] = slice(at, at + part.size)
            at += part.size
        return result

    @property
    def labels(self) -> list[str]:
        """(P,) a name for each coordinate: the parameter and a number, not an entry of it."""
        return [f"{part.name}.{i}" for part in self._parts for i in range(part.size)]

    def pack(self) -> Tensor:
        """(P,) the example's own coordinates."""
        return torch.cat([torch.zeros(0, dtype=torch.float64), *(part.pack() for part in self._parts)])

    def unpack(self, coordinates: Tensor) -> dict[str, Tensor]:
        """The parameters at a vector (..., P), its leading dims first; differentiable."""
        return {part.name: part.unpack(piece) for part, piece in self._split(coordinates)}

    def log_jacobian(self, coordinates: Tensor) -> Tensor:
        """(...,) log |d parameters / d u| at vectors (..., P); see `unpack_with_jacobian`."""
        return self.unpack_with_jacobian(coordinates)[1]

    def unpack_with_jacobian(self, coordinates: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The parameters at vectors (..., P) and (...,) log |d parameters / d u|; differentiable.

        Densities of the parameters plus this are densities of the coordinates. The measure is that of torch's laws: of
        a row of m free probabilities the first m - 1 of them, of a Cholesky factor its lower triangle. Of a parameter
        that is known in part only the free entries count, as a density of them.
        """
        total = coordinates.new_zeros(coordinates.shape[:-1])
        result = {}
        for part, piece in self._split(coordinates):
            result[part.name] = part.unpack(piece)
            if part.size:
                total = total + part.log_jacobian(piece, result[part.name])
        return result, total

    def _split(self, coordinates: Tensor) -> list[tuple[_Rows | _Elements, Tensor]]:
        pieces = coordinates.split([part.size for part in self._parts], -1) if self._parts else []
        return list(zip(self._parts, pieces, strict=True))

    @cached_property
    def _parts(self) -> list[_Rows | _Elements]:
        parts = []
        for name, parameter in self.declared.items():
            value = self.example[name].detach().double()
            known = self.known[name].expand(value.shape) if name in self.known else torch.full_like(value, torch.nan)
            parts.append((_Rows if is_simplex(parameter.constraint) else _Elements)(name, parameter, value, known))
        return parts


def is_simplex(constraint: Constraint) -> bool:
    """Whether the last dim holds probabilities that sum to one."""
    inner: Any = constraint
    while hasattr(inner, "base_constraint"):
        inner = inner.base_constraint
    return isinstance(inner, type(constraints.simplex))  # a model that was sent to another process has its own


def log_ratio_basis(size: int) -> Tensor:
    """(M, M - 1) orthonormal columns that sum to zero (Helmert); the upper left (m, m - 1) is that of m numbers."""
    number = torch.arange(1, size, dtype=torch.float64)
    above = torch.arange(size).unsqueeze(1) < number
    basis = above.double() - torch.diag(number, -1)[:, : size - 1] if size > 1 else above.double()
    return basis / (number * (number + 1.0)).sqrt()


class _Rows:
    """Probabilities (..., M): a softmax over the free entries of each row, times what the known ones leave."""

    def __init__(self, name: str, parameter: Parameter, value: Tensor, known: Tensor) -> None:
        self.name, self.value = name, value
        self.rest = torch.where(known.isnan(), value, known)  # of the entries that are not free
        self.free = known.isnan() & (value > 0)
        self.all_free = bool(self.free.all())
        self.left = 1.0 - known.nan_to_num(nan=0.0).sum(-1, keepdim=True)
        many = self.free.sum(-1, keepdim=True)
        self.basis = log_ratio_basis(value.shape[-1])
        self.rank = (self.free.cumsum(-1) - 1).clamp_min(0)  # among the free entries of its row
        self.used = torch.arange(1, value.shape[-1]) < many  # (..., M - 1) coordinates of each row
        self.size = int(self.used.sum())
        self.place = torch.where(self.used, (self.used.reshape(-1).cumsum(0) - 1).reshape(self.used.shape), self.size)
        self.moving = self.free & (many > 1)
        rows = many > 1
        self.constant = float((0.5 * many[rows].double().log() - self.left[rows].log()).sum())

    def pack(self) -> Tensor:
        logs = torch.where(self.free, self.value, 1.0).log()
        by_rank = torch.zeros_like(logs).scatter_add(-1, self.rank, logs)
        return (by_rank @ self.basis)[self.used]

    def unpack(self, coordinates: Tensor) -> Tensor:
        lead = coordinates.shape[:-1]
        if self.all_free:
            return (coordinates.reshape(lead + self.used.shape) @ self.basis.mT).softmax(-1)
        padded = torch.cat([coordinates, coordinates.new_zeros((*lead, 1))], -1)[..., self.place.reshape(-1)]
        by_rank = padded.reshape(lead + self.used.shape) @ self.basis.mT
        logits = by_rank.gather(-1, self.rank.expand(by_rank.shape)).masked_fill(~self.free, -torch.inf)
        rows = torch.where(self.free.any(-1, keepdim=True), logits, 0.0).softmax(-1) * self.left
        return torch.where(self.free, rows, self.rest)

    def log_jacobian(self, coordinates: Tensor, rows: Tensor) -> Tensor:
        """Of m shares p_i of what is left, a: sum_i log (a p_i) - log a + log m / 2, over all rows."""
        logs = rows.log() if self.all_free else torch.where(self.moving, rows, 1.0).log()
        return logs.flatten(-self.value.dim()).sum(-1) + self.constant


class _Elements:
    """Values of one constraint, by torch's bijection."""

    def __init__(self, name: str, parameter: Parameter, value: Tensor, known: Tensor) -> None:
        self.name, self.value, self.known = name, value, known
        self.transform: Any = biject_to(parameter.constraint)
        self.shape = torch.Size(self.transform.inverse_shape(value.shape))
        given = ~known.isnan()
        if bool(given.any()) and not bool(given.all()) and self.shape != value.shape:
            raise ModelError(
                f"The parameter {name} must be fixed as a whole, or not at all, got some of its entries; its entries "
                "are bound to each other."
            )
        self.free = ~given if self.shape == value.shape else torch.full(self.shape, not bool(given.any()))
        self.given = given
        self.size = int(self.free.sum())
        self.whole = self.size == self.free.numel()
        self.start: Tensor = self.transform.inv(value).nan_to_num(nan=0.0, posinf=FAR, neginf=-FAR).double()
        self.place = torch.where(self.free, (self.free.reshape(-1).cumsum(0) - 1).reshape(self.shape), self.size)

    def pack(self) -> Tensor:
        return self.start.reshape(self.shape)[self.free]

    def unpack(self, coordinates: Tensor) -> Tensor:
        if self.size == 0:
            return torch.where(self.given, self.known, self.value).expand(coordinates.shape[:-1] + self.value.shape)
        moved = self.transform(self._moved(coordinates))
        return moved if self.whole else torch.where(self.given, self.known, moved)

    def log_jacobian(self, coordinates: Tensor, value: Tensor) -> Tensor:
        moved = self._moved(coordinates)
        inner = self.transform
        while isinstance(inner, IndependentTransform):  # entry by entry where it can be
            inner = inner.base_transform
        here = value if self.whole else inner(moved)
        each = inner.log_abs_det_jacobian(moved, here)
        lead = coordinates.dim() - 1
        return (each if self.whole else torch.where(self.free, each, 0.0)).reshape((*each.shape[:lead], -1)).sum(-1)

    def _moved(self, coordinates: Tensor) -> Tensor:
        """The unconstrained values, those of what is given at their place."""
        lead = coordinates.shape[:-1]
        if self.whole:
            return coordinates.reshape(lead + self.shape)
        padded = torch.cat([coordinates, coordinates.new_zeros((*lead, 1))], -1)[..., self.place.reshape(-1)]
        return torch.where(self.free, padded.reshape(lead + self.shape), self.start.reshape(self.shape))
