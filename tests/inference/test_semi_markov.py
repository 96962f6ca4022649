"""HMMs with explicit durations: EM, SVI, answers, storage, and the durations found again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from probseq import HMM, Sequences, em, families, svi
from probseq.chains import (
    FreeDurations,
    Geometric,
    SemiMarkovTransitions,
    ShiftedNegativeBinomial,
    ShiftedPoisson,
    StationaryInitial,
)
from probseq.errors import ModelError
from probseq.inference.fit import Fit

DOUBLE = torch.float64
LAWS = {
    "poisson": ShiftedPoisson(max=20),
    "negative binomial": ShiftedNegativeBinomial(max=20),
    "geometric": Geometric(),
    "free": FreeDurations(max=8),
    "free with a tail": FreeDurations(max=5, tail=True),
}


def simulated(steps: int | list[int] = 600, seed: int = 0, states: int = 3, rates=(4.0, 8.0, 14.0)) -> Sequences:
    """Segments of 1 + Poisson(rate) steps, means two standard deviations apart; every tenth step is missing."""
    generator = np.random.default_rng(seed)
    lengths = [steps] if isinstance(steps, int) else steps
    values = []
    for length in lengths:
        state, path = int(generator.integers(states)), []
        while len(path) < length:
            path += [state] * int(1 + generator.poisson(rates[state]))
            state = int(generator.choice([k for k in range(states) if k != state]))
        values.append(generator.normal(2.0 * np.array(path[:length]), 1.0))
    flat = np.concatenate(values)
    flat[::10] = np.nan
    return Sequences.from_arrays(flat, lengths=lengths)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("in_progress", [False, True])
@pytest.mark.parametrize("priors", [False, True])
def test_em_never_decreases(name, in_progress, priors):
    series = simulated([80, 1, 60], seed=3)
    model = HMM(2 if in_progress else 3, families.Gaussian(), transition=SemiMarkovTransitions(LAWS[name], in_progress))
    bound = model.bind(series, with_priors=priors)
    parameters, before = bound.start(series, 1, 0), -np.inf
    for _ in range(12):
        counts = bound.expect(parameters, series)
        value = float(bound.log_joint(parameters, series, priors))
        assert value >= before - 1e-9 * abs(value)
        before = value
        parameters = bound.maximise(parameters, counts, priors, series)


def test_geometric_durations_fit_as_an_ordinary_hmm():
    series = simulated(300, rates=(6.0, 6.0), states=2)
    ordinary = em(HMM(2, families.Gaussian()), series, seed=0, restarts=2)
    explicit = em(HMM(2, families.Gaussian(), transition=SemiMarkovTransitions(Geometric())), series, restarts=2)
    assert explicit.log_likelihood == pytest.approx(ordinary.log_likelihood, abs=1e-5)  # both stop near the top
    torch.testing.assert_close(
        explicit.parameters["stay"], ordinary.parameters["transition"].diagonal(), rtol=0.0, atol=2e-3
    )
    assert explicit.n_parameters == ordinary.n_parameters


def test_a_fit_answers_forecasts_and_is_stored(tmp_path):
    series = simulated([150, 90])
    fit = em(HMM(3, families.Gaussian(), transition=SemiMarkovTransitions(ShiftedPoisson(max=30))), series, restarts=2)
    assert fit.converged
    found = fit.posterior(series)
    segments = found.segments()
    assert list(segments.columns) == ["sequence", "start", "end", "state"]
    assert (segments["end"] - segments["start"]).sum() == 240
    assert (segments["state"].diff().ne(0) | segments["sequence"].diff().ne(0)).all()
    # given the data, the state so many steps ahead: Monte Carlo over paths of a longer series has the same law
    longer = fit.model.posterior(fit.parameters, series.future(4))
    paths = longer.sample(4000, seed=0)
    ahead = [150 + h for h in range(4)]
    frame = fit.forecast(series, 4)
    share = torch.stack([(paths[:, ahead] == k).double().mean(0) for k in range(3)], -1)
    exact = torch.tensor(frame.loc[:, ["probability_0", "probability_1", "probability_2"]].to_numpy()[:4])
    torch.testing.assert_close(share, exact, rtol=0.0, atol=0.04)  # five standard deviations of 4000 draws
    fit.save(tmp_path / "fit")
    again = Fit.load(tmp_path / "fit")
    assert again.model == fit.model
    assert torch.equal(again.posterior(series).viterbi, found.viterbi)
    assert again.log_prob(series).sum() == pytest.approx(fit.log_likelihood, rel=1e-9)
    assert fit.simulate([30, 20], seed=1).total_steps == 50


def test_svi_finds_about_the_posterior_mode():
    series = simulated(250, states=2)
    model = HMM(2, families.Gaussian(), transition=SemiMarkovTransitions(ShiftedPoisson(max=25)))
    mode = em(model, series, priors=True, restarts=2)
    fit = svi(model, series, seed=0)
    torch.testing.assert_close(fit.parameters["loc"], mode.parameters["loc"], rtol=0.0, atol=0.3)
    torch.testing.assert_close(fit.parameters["duration_rate"], mode.parameters["duration_rate"], rtol=0.25, atol=0.0)


def test_the_stationary_law_is_the_share_of_time():
    law = SemiMarkovTransitions(FreeDurations(max=3))
    parameters = {
        "transition": torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=DOUBLE),
        "duration": torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=DOUBLE),
    }
    torch.testing.assert_close(law.stationary(parameters), torch.tensor([0.25, 0.75], dtype=DOUBLE))
    torch.testing.assert_close(
        law.tables(parameters, None)[0][0], torch.tensor([[0.0, 1.0], [1 / 3, 2 / 3]], dtype=DOUBLE)
    )
    series = simulated(120, states=2)
    model = HMM(2, families.Gaussian(), StationaryInitial(), SemiMarkovTransitions(ShiftedPoisson(20), True))
    fit = em(model, series, restarts=1)
    expected = fit.model.transition.stationary(fit.parameters)
    torch.testing.assert_close(fit.parameters["initial"], expected, rtol=1e-10, atol=1e-12)


def test_a_collapsed_climb_is_passed_over_for_a_sound_one():
    """From another first state EM runs into a state of one value, with a likelihood that no law may claim."""
    values = """
        0.75 nan 2.418 3.109 -0.076 0.202 3.694 nan 4.421 3.726 0.844 1.165 0.788 nan nan 1.573 -0.135 -0.77 1.577 0.258
        -0.569 -1.03 1.957 0.268 0.359 1.322 2.986 1.042 1.402 nan 0.635 1.229 0.34 0.424 3.371 3.383 0.319 -0.359
        1.098 -0.109 2.196 1.08 2.711 0.083"""
    series = Sequences.from_arrays(
        np.array(values.split(), float), lengths=[9, 14, 1, 20], weights=[1.0, 2.0, 0.5, 0.0]
    )
    fit = em(
        HMM(2, families.Gaussian(), transition=SemiMarkovTransitions(ShiftedNegativeBinomial(12))), series, restarts=1
    )
    assert fit.converged and not fit.with_priors
    assert (fit.parameters["scale"] > 0.5).all()


def test_one_state_is_refused():
    with pytest.raises(ModelError, match="at least two states"):
        em(HMM(1, families.Gaussian(), transition=SemiMarkovTransitions()), simulated(50))
    with pytest.raises(ModelError, match="must be a law of durations"):
        SemiMarkovTransitions("poisson")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["poisson", "negative binomial", "free"])
def test_simulated_durations_are_recovered(name):
    """Twenty thousand steps, some 2,000 segments: means to 5%, against a geometric fit that does worse by far."""
    rates = (4.0, 8.0, 14.0)
    law = {"poisson": ShiftedPoisson(60), "negative binomial": ShiftedNegativeBinomial(60), "free": FreeDurations(40)}
    series = simulated(20_000, seed=1, rates=rates)
    fit = em(HMM(3, families.Gaussian(), transition=SemiMarkovTransitions(law[name])), series, restarts=1)
    durations = fit.model.transition.duration
    np.testing.assert_allclose(durations.mean(fit.parameters), 1.0 + np.array(rates), rtol=0.05)
    found = durations.table(fit.parameters).log_duration.exp()
    exact = ShiftedPoisson(found.shape[-1]).table({"duration_rate": torch.tensor(rates, dtype=DOUBLE)})
    # a free law follows its 700 segments a state, whose distribution is within 0.05 of the true one; others are nearer
    distance = (found.cumsum(-1) - exact.log_duration.exp().cumsum(-1)).abs().max()
    assert distance < (0.08 if name == "free" else 0.04)
    ordinary = em(HMM(3, families.Gaussian()), series, restarts=1)
    assert fit.bic < ordinary.bic - 100.0
