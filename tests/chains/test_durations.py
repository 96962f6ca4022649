"""Duration laws: their tables against scipy, their M-steps against the neighbourhood and the closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from probseq.chains import FreeDurations, Geometric, ShiftedNegativeBinomial, ShiftedPoisson
from probseq.chains.durations import DurationCounts, DurationLaw
from probseq.errors import ModelError

DOUBLE = torch.float64
LAWS: dict[str, DurationLaw] = {
    "poisson": ShiftedPoisson(max=30),
    "negative binomial": ShiftedNegativeBinomial(max=30),
    "geometric": Geometric(),
    "free": FreeDurations(max=6),
    "free with a tail": FreeDurations(max=6, tail=True),
}


def drawn(law: DurationLaw, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {name: prior.expand([3]).sample() for name, prior in law.priors().items()}


def counts_of(law: DurationLaw, seed: int = 0) -> DurationCounts:
    generator = np.random.default_rng(seed)
    table = law.table(law.start(torch.full((3,), 5.0, dtype=DOUBLE)))
    some = torch.tensor(generator.gamma(1.0, size=table.log_duration.shape) * 10.0)
    some[2] = 0.0  # a state that has no segments
    stay = some[:, -1] * (table.log_stay > -torch.inf)
    return DurationCounts(some, stay * 3.0, stay)


def test_parametric_laws_are_those_of_scipy_given_their_longest():
    d = np.arange(30)
    table = ShiftedPoisson(30).table({"duration_rate": torch.tensor([0.3, 7.0, 80.0], dtype=DOUBLE)})
    for row, rate in zip(table.log_duration, (0.3, 7.0, 80.0), strict=True):
        expected = stats.poisson.logpmf(d, rate)
        np.testing.assert_allclose(row, expected - np.logaddexp.reduce(expected), rtol=1e-12, atol=1e-12)
    means, sizes = torch.tensor([0.5, 9.0], dtype=DOUBLE), torch.tensor([0.7, 3.0], dtype=DOUBLE)
    table = ShiftedNegativeBinomial(30).table({"duration_mean": means, "duration_size": sizes})
    for row, m, r in zip(table.log_duration, means.numpy(), sizes.numpy(), strict=True):
        expected = stats.nbinom.logpmf(d, r, r / (r + m))
        np.testing.assert_allclose(row, expected - np.logaddexp.reduce(expected), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", LAWS)
def test_a_law_sums_to_one_and_has_its_mean(name):
    law, parameters = LAWS[name], drawn(LAWS[name])
    table = law.table(parameters)
    torch.testing.assert_close(table.log_duration.logsumexp(-1), torch.zeros(3, dtype=DOUBLE), rtol=0, atol=1e-12)
    longest = table.log_duration.shape[-1]
    stay, mass = table.log_stay.exp().numpy(), table.log_duration.exp().numpy()
    d = np.arange(20_000)  # far out in any tail of these
    with np.errstate(under="ignore"):
        tail = (1.0 - stay[:, None]) * stay[:, None] ** d
    mean = mass[:, :-1] @ np.arange(1, longest) + mass[:, -1] * (tail @ (longest + d))
    np.testing.assert_allclose(law.mean(parameters), mean, rtol=1e-9)
    assert law.describe(parameters, 1) == f"lasts {mean[1]:.3g} steps on average"


@pytest.mark.parametrize("name", LAWS)
def test_the_start_is_about_as_long_as_asked(name):
    mean = torch.tensor([2.0, 3.0, 4.5], dtype=DOUBLE)
    found = LAWS[name].mean(LAWS[name].start(mean))
    assert (found.diff() > 0).all()
    assert ((found / mean).log().abs() < 0.4).all()


@pytest.mark.parametrize("with_prior", [False, True])
@pytest.mark.parametrize("name", LAWS)
def test_the_m_step_is_the_top(name, with_prior):
    """No neighbour is likelier, nor is where it came from; a state without segments stays, or goes to its prior."""
    law, current = LAWS[name], drawn(LAWS[name])
    for seed in range(3):
        counts = counts_of(law, seed)
        likelihood = law.expected_log_prob(counts)

        def objective(parameters, likelihood=likelihood):
            total = likelihood(parameters)
            if with_prior:
                total = total + sum(prior.log_prob(parameters[parameter]) for parameter, prior in law.priors().items())
            return total

        found = law.maximise_posterior(counts, current) if with_prior else law.maximise(counts, current)
        top = objective(found)
        assert (top >= objective(current)).all()
        if not with_prior:
            for parameter in found:
                torch.testing.assert_close(found[parameter][2], current[parameter][2], rtol=1e-12, atol=0.0)
        for parameter, value in found.items():
            for step in (1e-3, -1e-3):
                if value.dim() == 1:
                    moved = {**found, parameter: value * (1.0 + step)}
                    assert (objective(moved)[:2] <= top[:2] + 1e-9).all()
                else:
                    tilt = 1.0 + step * torch.randn(value.shape, dtype=DOUBLE)
                    moved = {**found, parameter: value * tilt / (value * tilt).sum(-1, keepdim=True)}
                    assert (objective(moved)[:2] <= top[:2] + 1e-9).all()


def test_free_durations_are_shares():
    counts = DurationCounts(
        torch.tensor([[3.0, 1.0, 4.0]], dtype=DOUBLE),
        torch.tensor([6.0], dtype=DOUBLE),
        torch.tensor([2.0], dtype=DOUBLE),
    )
    law = FreeDurations(max=3, tail=True)
    found = law.maximise(counts, law.start(torch.tensor([2.0], dtype=DOUBLE)))
    assert found["duration"].tolist() == [[0.375, 0.125, 0.5]]
    assert found["stay"].tolist() == [0.75]
    assert law.n_parameters(4) == 12
    assert ShiftedNegativeBinomial(5).n_parameters(3) == 6


@pytest.mark.parametrize("longest", [0, 2.5, "3"])
def test_a_longest_that_is_none_is_refused(longest):
    for law in (ShiftedPoisson, ShiftedNegativeBinomial, FreeDurations):
        with pytest.raises(ModelError, match="max must be a whole number"):
            law(max=longest)
