"""Every family with a two-state model, series drawn from it with steps missing, and small helpers for the checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import biject_to

from probseq import HMM, MarkovChain, Sequences, families
from probseq.families import Family
from tests.every_family import FAMILIES as SHARED

FAMILIES = SHARED | {
    "independent-bernoulli": (families.Independent(families.Bernoulli()), 2),
}


@dataclass(frozen=True)
class Case:
    """A model with the parameters that its series was drawn from.

    Args:
        model: of two states.
        truth: site -> value.
        series: three sequences, some steps of which are missing.
    """

    model: HMM
    truth: dict[str, Tensor]
    series: Sequences


def random_parameters(family: Family, width: int, states: int, seed: int) -> dict[str, Tensor]:
    """A draw of each emission parameter, normal in unconstrained coordinates."""
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name, parameter in family.parameters((width,) if width else ()).items():
        transform = biject_to(parameter.constraint)
        full = torch.Size(parameter.shape if parameter.shared else (states, *parameter.shape))
        coordinates = torch.randn(transform.inverse_shape(full), generator=generator, dtype=torch.float64)
        result[name] = transform(coordinates)
    return result


def make_case(
    family: Family,
    width: int = 0,
    lengths: tuple[int, ...] = (70, 1, 50),
    missing: float = 0.05,
    seed: int = 3,
    emission: dict[str, Tensor] | None = None,
) -> Case:
    """Two sticky states, with random emissions unless they are given, and a series drawn with torch alone."""
    model = HMM(2, family)
    transition = torch.tensor([[0.9, 0.1], [0.15, 0.85]], dtype=torch.float64)
    initial = torch.tensor([0.6, 0.4], dtype=torch.float64)
    emission = random_parameters(family, width, 2, seed) if emission is None else emission
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        path = MarkovChain(initial, transition, list(lengths)).sample()
        values = (
            model.emission_at(emission, path).sample().expand(torch.Size([len(path), *((width,) if width else ())]))
        )
    observed = torch.from_numpy(np.random.default_rng(seed).random(values.shape) >= missing)
    series = Sequences(values, torch.tensor(lengths), observed=observed)
    return Case(model, {"initial": initial, "transition": transition, **emission}, series)


@pytest.fixture(params=FAMILIES)
def case(request) -> Case:
    """Every family."""
    return make_case(*FAMILIES[request.param])


@pytest.fixture(name="make_case")
def _make_case() -> Callable[..., Case]:
    return make_case


@pytest.fixture
def gaussian() -> Case:
    return make_case(families.Gaussian())


@pytest.fixture
def poisson() -> Case:
    """Two rates that are easily told apart."""
    return make_case(families.Poisson(), emission={"rate": torch.tensor([2.0, 9.0], dtype=torch.float64)})
