"""Named parameters as one unconstrained vector and back, for gradient methods.

Rows of probabilities go by a softmax over their positive entries, so a zero stays a zero; everything else goes by
torch's bijection onto its constraint. What is known takes no coordinates.
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

    def pack(self) -> Tensor:
        """(P,) the example's own coordinates."""
        return torch.cat([torch.zeros(0, dtype=torch.float64), *(part.pack() for part in self._parts)])

    def unpack(self, coordinates: Tensor) -> dict[str, Tensor]:
        """The parameters at a vector; differentiable."""
        sizes = [part.size for part in self._parts]
        pieces = coordinates.split(sizes) if sizes else []
        return {part.name: part.unpack(piece) for part, piece in zip(self._parts, pieces, strict=True)}

    @cached_property
    def _parts(self) -> list[_Rows | _Elements]:
        parts = []
        for name, parameter in self.declared.items():
            value = self.example[name].detach()
            known = self.known[name].expand(value.shape) if name in self.known else torch.full_like(value, torch.nan)
            parts.append((_Rows if is_simplex(parameter.constraint) else _Elements)(name, parameter, value, known))
        return parts


def is_simplex(constraint: Constraint) -> bool:
    """Whether the last dim holds probabilities that sum to one."""
    inner: Any = constraint
    while hasattr(inner, "base_constraint"):
        inner = inner.base_constraint
    return inner is constraints.simplex


class _Rows:
    """Probabilities (..., M): a softmax over the free entries of each row, times what the known ones leave."""

    def __init__(self, name: str, parameter: Parameter, value: Tensor, known: Tensor) -> None:
        self.name, self.value = name, value
        self.known = known
        self.free = known.isnan() & (value > 0)
        self.size = int(self.free.sum())
        self.left = 1.0 - known.nan_to_num(nan=0.0).sum(-1, keepdim=True)
        self.moves = self.free.any(-1, keepdim=True)

    def pack(self) -> Tensor:
        return self.value[self.free].log().double()

    def unpack(self, coordinates: Tensor) -> Tensor:
        logits = torch.full_like(self.value, -torch.inf).masked_scatter(self.free, coordinates)
        rows = torch.where(self.moves, logits, 0.0).softmax(-1) * self.left
        return torch.where(self.free, rows, torch.where(self.known.isnan(), self.value, self.known))


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

    def _start(self) -> Tensor:
        return self.transform.inv(self.value).nan_to_num(nan=0.0, posinf=FAR, neginf=-FAR).double()

    def pack(self) -> Tensor:
        return self._start().reshape(self.shape)[self.free]

    def unpack(self, coordinates: Tensor) -> Tensor:
        if self.size == 0:
            return torch.where(self.given, self.known, self.value)
        if self.size == self.free.numel():
            return self.transform(coordinates.reshape(self.shape))
        moved = self._start().masked_scatter(self.free, coordinates)
        return torch.where(self.given, self.known, self.transform(moved))
