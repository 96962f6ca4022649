"""The recorded log density against the program itself, for every family, structure and kind of program."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from probseq import HMM, FitError, MarkovChain, Sequences, families
from probseq.chains import (
    ForbiddenTransitions,
    LeftRightTransitions,
    SemiMarkovTransitions,
    ShiftedPoisson,
    StationaryInitial,
)
from probseq.inference.potential import Potential
from probseq.inference.starting_points import potential_of
from probseq.models.program import ProgramModel

NAN = math.nan
COUNTS = Sequences.from_arrays([[1.0, 4.0, 2.0, 9.0, 3.0, 12.0, 1.0, 0.0], [2.0, 8.0, 7.0]])


def check(potential: Potential, played: int = 3) -> None:
    """At random points: value and gradient by the tape, by the program, and by finite differences of the program."""
    start = potential.coordinates.pack().numpy()
    rng = np.random.default_rng(5)
    assert potential.recorded
    for _ in range(played):
        point = start + 0.4 * rng.standard_normal(len(start))
        value, gradient = potential(point)
        parameters = potential.coordinates.unpack(torch.from_numpy(point))
        expected = float(potential.model.log_joint(parameters, potential.series, True))
        expected += float(potential.coordinates.log_jacobian(torch.from_numpy(point)))
        assert value == pytest.approx(expected, rel=1e-10, abs=1e-9)
        direction = rng.standard_normal(len(start))
        step = 1e-5 * direction
        slope = (potential(point + step)[0] - potential(point - step)[0]) / 2e-5
        # Central differences of a sum of some 10 nats: 1e-10 of them from the third derivative, 1e-10 of rounding.
        assert float(gradient @ direction) == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_of_every_family(case):
    model = case.model.bind(case.series, with_priors=True)
    check(potential_of(model, case.series, 0))


@pytest.mark.parametrize(
    "options",
    [
        {"initial": StationaryInitial()},
        {"transition": LeftRightTransitions()},
        {"transition": ForbiddenTransitions(((0, 2),)), "fixed": {"rate": torch.tensor([1.0, NAN, NAN])}},
        {"fixed": {"transition": torch.tensor([[0.5, NAN, NAN], [NAN, NAN, NAN], [0.1, 0.2, 0.7]])}},
        {"transition": SemiMarkovTransitions(ShiftedPoisson(max=6))},
    ],
    ids=["stationary", "left-right", "forbidden", "fixed", "semi-Markov"],
)
def test_of_every_structure(options):
    model = HMM(3, families.Poisson(), **options).bind(COUNTS, with_priors=True)
    check(potential_of(model, COUNTS, 0))


def test_weighted_sequences():
    """Sequences that count differently take another pass, which the tape has too."""
    weighted = Sequences(COUNTS.values, COUNTS.lengths, weights=torch.tensor([2.0, 0.5]))
    check(potential_of(HMM(2, families.Poisson()).bind(weighted, with_priors=True), weighted, 0))


def hierarchical(series):
    """A rate for each sequence around common ones, a matrix filled in place, and a branch on the parameters."""
    spread = pyro.sample("spread", dist.Gamma(torch.tensor(2.0).double(), 4.0))
    common = pyro.sample("common", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
    with pyro.plate("sequences", series.count):
        shift = pyro.sample("shift", dist.Normal(torch.zeros(2).double(), spread).to_event(1))
    stay = pyro.sample("stay", dist.Beta(torch.full((2,), 4.0).double(), 1.0).to_event(1))
    transition = torch.zeros(2, 2, dtype=torch.float64)
    for k in range(2):
        transition[k, k] = stay[k]
        transition[k, 1 - k] = 1.0 - stay[k]
    rate = (common + shift).exp()[series.step_sequence]
    if bool(spread > 1.0):  # the same law, written another way
        rate = (common + shift)[series.step_sequence].exp()
    state = pyro.sample("state", MarkovChain(torch.full((2,), 0.5).double(), transition, series.lengths))
    steps = torch.arange(series.total_steps)
    with pyro.plate("step", series.total_steps):
        pyro.sample("y", dist.Poisson(rate[steps, state]), obs=series.values)


def test_of_a_program():
    model = ProgramModel(hierarchical).bind(COUNTS)
    potential = potential_of(model, COUNTS, 0)
    check(potential)
    at = potential.coordinates.slices["spread"]
    for value in (-2.0, 2.0):  # both ways of the branch are recorded
        point = potential.coordinates.pack().numpy()
        point[at] = value
        assert potential(point)[0] == pytest.approx(float(potential.direct(torch.from_numpy(point))[0]), rel=1e-12)
    assert len(potential._players) == 2


def numpy_inside(series):
    """A program that reads its parameters behind torch's back."""
    rate = pyro.sample("rate", dist.Gamma(torch.full((2,), 2.0).double(), 0.5).to_event(1))
    gap = float(np.abs(np.diff(rate.detach().numpy()))[0])
    half = torch.full((2,), 0.5, dtype=torch.float64)
    state = pyro.sample("state", MarkovChain(half, half.expand(2, 2), series.lengths))
    with pyro.plate("step", series.total_steps):
        pyro.sample("y", dist.Poisson(rate[state] + gap), obs=series.values)


def test_a_program_that_cannot_be_recorded_is_run_anew():
    model = ProgramModel(numpy_inside).bind(COUNTS)
    with pytest.warns(UserWarning, match="run anew for every gradient.*not a function of torch's operations alone"):
        potential = potential_of(model, COUNTS, 0)
    point = potential.coordinates.pack().numpy() + 0.3
    value = model.log_joint(potential.coordinates.unpack(torch.from_numpy(point)), COUNTS, True)
    value = value + potential.coordinates.log_jacobian(torch.from_numpy(point))
    assert not potential.recorded and potential(point)[0] == pytest.approx(float(value), rel=1e-12)


def test_a_difference_where_the_sampler_has_been_is_an_error():
    """Numbers that agree at the start and differ far out are found among the draws."""

    def late(series):
        rate = pyro.sample("rate", dist.Gamma(torch.full((2,), 2.0).double(), 0.5).to_event(1))
        extra = 1.0 if rate.detach().numpy().max() > 1e6 else 0.0
        half = torch.full((2,), 0.5, dtype=torch.float64)
        state = pyro.sample("state", MarkovChain(half, half.expand(2, 2), series.lengths))
        with pyro.plate("step", series.total_steps):
            pyro.sample("y", dist.Poisson(rate[state] + extra), obs=series.values)

    potential = potential_of(ProgramModel(late).bind(COUNTS), COUNTS, 0)
    potential.confirm(potential.coordinates.pack().unsqueeze(0))
    with pytest.raises(FitError, match="through torch alone"):
        potential.confirm(torch.full((1, 2), 15.0, dtype=torch.float64))


def test_nothing_global_is_touched():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        potential = potential_of(ProgramModel(hierarchical).bind(COUNTS), COUNTS, 0)
        potential(potential.coordinates.pack().numpy())
    assert torch.equal(torch.rand(2), expected)


def test_out_of_range_is_minus_infinity():
    potential = potential_of(HMM(2, families.Poisson()).bind(COUNTS, with_priors=True), COUNTS, 0)
    value, gradient = potential(np.full(len(potential.coordinates.pack()), 800.0))
    assert value == -math.inf and not gradient.any()
