"""Every family in a two-state HMM with random parameters, and ragged data with steps missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import biject_to

from probseq import HMM, Sequences, families
from probseq.families import Family
from tests.every_family import FAMILIES as SHARED

FAMILIES = SHARED | {
    "independent-hurdle-gamma": (families.Independent(families.Hurdle(families.Gamma())), 2),
}


@dataclass(frozen=True)
class Case:
    """A model bound to its series, and draws of its parameters.

    Args:
        model: of two states, with its priors fixed on the scale of the series.
        draws: site -> (4, ...).
        series: three sequences, two steps of which are missing.
    """

    model: HMM
    draws: dict[str, Tensor]
    series: Sequences

    def draw(self, number: int) -> dict[str, Tensor]:
        return {name: value[number] for name, value in self.draws.items()}


def make_case(family: Family, width: int = 0, weights: Tensor | None = None) -> Case:
    """Six steps in sequences of 3, 1 and 2, the second missing, the last too or, of a vector, in part."""
    generator = torch.Generator().manual_seed(1)
    draws = {
        "initial": torch.rand(4, 2, generator=generator, dtype=torch.float64) + 0.1,
        "transition": torch.rand(4, 2, 2, generator=generator, dtype=torch.float64) + 0.1,
    }
    draws = {name: value / value.sum(-1, keepdim=True) for name, value in draws.items()}
    for name, parameter in family.parameters((width,) if width else ()).items():
        transform = biject_to(parameter.constraint)
        full = torch.Size((4, *parameter.shape) if parameter.shared else (4, 2, *parameter.shape))
        coordinates = torch.randn(transform.inverse_shape(full), generator=generator, dtype=torch.float64)
        draws[name] = transform(0.7 * coordinates)
    model = HMM(2, family)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        first = {name: value[0] for name, value in draws.items()}
        values = model.emission_at(first, torch.tensor([0, 1, 1, 0, 1, 0])).sample()
    values = values.expand(torch.Size([6, *([width] if width else [])]))
    observed = torch.ones(values.shape, dtype=torch.bool)
    observed[1] = False
    observed.reshape(6, -1)[5, 0] = False  # of a vector, one column
    series = Sequences(values, torch.tensor([3, 1, 2]), observed=observed, weights=weights)
    priors = family.priors(values)
    return Case(HMM(2, family, priors=priors), draws, series)


@pytest.fixture(params=FAMILIES)
def case(request) -> Case:
    """Every family."""
    return make_case(*FAMILIES[request.param])


@pytest.fixture(name="make_case")
def _make_case() -> Callable[..., Case]:
    return make_case


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Tensors of six steps are slower on two threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def float64() -> Iterator[None]:
    """Tensors that a test makes are in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
