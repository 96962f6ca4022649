"""Unconstrained coordinates: round trips, as many as there are free numbers, and the Jacobian against autograd's."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.distributions import constraints

from probseq import HMM, MarkovChain, Sequences, families
from probseq.chains import ForbiddenTransitions, LeftRightTransitions, StationaryInitial
from probseq.chains.sparse_dirichlet import SparseDirichlet
from probseq.families.coordinates import Coordinates, log_ratio_basis
from probseq.families.family import Parameter
from probseq.models.program import ProgramModel

NAN = math.nan
SERIES = Sequences.from_arrays([1.0, 4.0, 2.0, 9.0, 3.0, 12.0, 1.0])


def free_entries(name: str, value: Tensor, start: Tensor, fixed: Tensor | None) -> Tensor:
    """Which entries of a parameter are a density's own coordinates, by the book."""
    free = torch.ones_like(value, dtype=torch.bool) if fixed is None else fixed.isnan()
    if name in ("initial", "transition", "probabilities", "weights", "shares", "duration"):
        free = free & (start > 0)
        for row in free.view(-1, free.shape[-1]):  # the last free one follows from the others
            if bool(row.any()):
                row[row.nonzero()[-1]] = False
    elif name == "scale_tril":
        free = free.tril()
    return free


def check(coordinates, example: dict[str, Tensor], fixed: dict[str, Tensor], computed: tuple[str, ...] = ()) -> None:
    """A random point near the example: as many coordinates as free entries, and the determinant by autograd."""
    free = {
        name: free_entries(name, value, value, fixed.get(name))
        for name, value in example.items()
        if name not in computed
    }

    def entries(u: Tensor) -> Tensor:
        found = coordinates.unpack(u)
        return torch.cat([found[name][mask] for name, mask in free.items()])

    packed = coordinates.pack()
    assert len(packed) == sum(int(mask.sum()) for mask in free.values()) == len(coordinates.labels)
    for name, value in coordinates.unpack(packed).items():
        torch.testing.assert_close(value, example[name], rtol=1e-9, atol=1e-12)
    u = packed + 0.3 * torch.randn(len(packed), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.linalg.slogdet(jacobian(entries, u))[1]
    torch.testing.assert_close(coordinates.log_jacobian(u), expected, rtol=1e-9, atol=1e-9)
    both = torch.stack([packed, u])
    parameters, log_jacobian = coordinates.unpack_with_jacobian(both)
    torch.testing.assert_close(log_jacobian, torch.stack([coordinates.log_jacobian(one) for one in both]))
    for name, value in coordinates.unpack(u).items():
        torch.testing.assert_close(parameters[name][1], value)


def test_of_every_family(case):
    check(case.model.coordinates(case.draw(0)), case.draw(0), {})


@pytest.mark.parametrize(
    ("structure", "computed"),
    [
        ({}, ()),
        ({"initial": StationaryInitial()}, ("initial",)),
        ({"transition": LeftRightTransitions()}, ()),
        ({"transition": ForbiddenTransitions(((0, 1), (0, 2), (1, 0)))}, ()),
        ({"fixed": {"transition": torch.tensor([[0.5, NAN, NAN], [NAN, 0.2, 0.8], [NAN, NAN, NAN]])}}, ()),
        ({"fixed": {"rate": torch.tensor([1.0, NAN, NAN]), "initial": torch.tensor([NAN, 0.25, NAN])}}, ()),
    ],
    ids=["free", "stationary", "left-right", "forbidden", "row in part", "known in part"],
)
def test_of_every_structure(structure, computed):
    model = HMM(3, families.Poisson(), **structure).bind(SERIES)
    point = model.start(SERIES, 0, 0)
    fixed = {name: value.double() for name, value in structure.get("fixed", {}).items()}
    check(model.coordinates(point), point, fixed, computed)


def test_of_a_program():
    """Simplexes, sparse rows, intervals and a scale by the laws' own supports."""

    def program(series):
        initial = pyro.sample("initial", dist.Dirichlet(torch.ones(3, dtype=torch.float64)))
        allowed = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
        transition = pyro.sample("transition", SparseDirichlet(allowed))
        rate = pyro.sample("rate", dist.Gamma(torch.full((3,), 2.0, dtype=torch.float64), 0.5).to_event(1))
        share = pyro.sample("share", dist.Beta(torch.tensor(2.0, dtype=torch.float64), 2.0))
        state = pyro.sample("state", MarkovChain(initial, transition, series.lengths))
        with pyro.plate("step", series.total_steps):
            pyro.sample("y", dist.Poisson(share * rate[state]), obs=series.values)

    model = ProgramModel(program).bind(SERIES)
    point = model.start(SERIES, 0, 0)
    check(model.coordinates(point), point, {})


def test_a_row_by_hand():
    """Of two probabilities the coordinate is log(p / q) / sqrt 2, and its Jacobian p q sqrt 2."""
    example = {"p": torch.tensor([0.2, 0.8], dtype=torch.float64)}
    coordinates = Coordinates({"p": Parameter(constraints.simplex, (2,), shared=True)}, example)
    assert coordinates.pack().tolist() == pytest.approx([math.log(0.25) / math.sqrt(2.0)], rel=1e-12)
    assert float(coordinates.log_jacobian(coordinates.pack())) == pytest.approx(math.log(0.16 * math.sqrt(2.0)))


def test_the_basis_is_orthonormal_and_nested():
    basis = log_ratio_basis(7)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(6, dtype=torch.float64))
    assert basis.sum(0).abs().max() < 1e-14
    assert torch.equal(basis[:4, :3], log_ratio_basis(4))
    assert log_ratio_basis(1).shape == (1, 0)
