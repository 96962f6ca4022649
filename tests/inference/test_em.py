"""EM of every family: it climbs, ends where the exact gradient is zero, and its answers do not hang on labels."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pyro
import pytest
import torch

from probseq import HMM, FitError, Sequences, em, families, marginalize, svi

QUICK = {"restarts": 1, "workers": 1, "tolerance": 1e-6}


def a_few_steps(case, series: Sequences, steps: int, **options):
    """EM stopped early, which it says."""
    with pytest.warns(UserWarning, match=f"max_iterations = {steps} reached"):
        return em(case.model, series, restarts=1, tolerance=0.0, polished=False, max_iterations=steps, **options)


def gradient(fit, series, priors: bool) -> dict[str, torch.Tensor]:
    """Of the marginalised program's log-joint (or of its likelihood alone) in unconstrained coordinates, nats.

    Coordinates of the laws are logits of the positive entries; those of the emission are torch's bijections.
    """
    free, leaves = {}, {}
    for name, value in fit.parameters.items():
        if name in ("initial", "transition"):
            leaves[name] = value.log().clamp_min(-30.0).requires_grad_()
            free[name] = leaves[name].softmax(-1)
        else:
            transform = torch.distributions.biject_to(fit.model.declared(fit.parameters)[name].constraint)
            leaves[name] = transform.inv(value).nan_to_num(posinf=30.0, neginf=-30.0).requires_grad_()
            free[name] = transform(leaves[name])
    trace = pyro.poutine.trace(pyro.condition(marginalize(fit.model.program), free)).get_trace(series)
    trace.compute_log_prob()
    total = trace.log_prob_sum() if priors else trace.nodes["state"]["log_prob_sum"]
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


@pytest.mark.parametrize("priors", [False, True])
def test_climbs_to_where_the_gradient_is_zero(case, priors):
    fit = em(case.model, case.series, priors=priors, **QUICK)
    rises = fit.objective.diff()
    assert (rises >= -1e-8 * fit.objective[1:].abs()).all()
    assert fit.converged, fit.stop_reason
    for name, slope in gradient(fit, case.series, priors).items():
        # Nats for a unit of a logit or a logarithm, of some hundreds in all: the last stretch ends near 1e-4.
        assert float(slope.abs().max()) < 0.02, (name, slope)


def test_likelihood_and_joint_are_those_of_the_program(case):
    """The fit's log-likelihood, its objective and its n_parameters against the marginalised program and by counting."""
    for priors in (False, True):
        fit = a_few_steps(case, case.series, 3, priors=priors, start=case.truth)
        marginal = pyro.condition(marginalize(fit.model.program), fit.parameters)
        trace = pyro.poutine.trace(marginal).get_trace(case.series)
        trace.compute_log_prob()
        assert fit.log_likelihood == pytest.approx(float(trace.nodes["state"]["log_prob_sum"]), abs=1e-8)
        objective = float(trace.log_prob_sum()) if priors else fit.log_likelihood
        assert float(fit.objective[-1]) == pytest.approx(objective, abs=1e-7)
        assert fit.log_likelihood == pytest.approx(float(fit.log_prob(case.series).sum()), abs=1e-8)
        assert float(fit.predictive_log_prob(case.series).sum()) == pytest.approx(fit.log_likelihood, abs=1e-8)
        declared = fit.model.declared(fit.parameters)
        free = sum(free_numbers(declared, name, value) for name, value in fit.parameters.items())
        assert fit.n_parameters == free
        assert fit.aic == pytest.approx(2 * free - 2 * fit.log_likelihood)
        seen = int(case.series.step_observed.sum())
        if case.model.emission.partly_missing:  # a vector counts from its first entry on
            seen = int(case.series.observed.any(1).sum())
        assert fit.bic == pytest.approx(free * torch.tensor(seen).double().log().item() - 2 * fit.log_likelihood)


def free_numbers(declared, name: str, value: torch.Tensor) -> int:
    """Unconstrained coordinates of one site."""
    if name in ("initial", "transition"):
        return value.numel() - value[..., 0].numel()
    return torch.distributions.biject_to(declared[name].constraint).inv(value).numel()


@pytest.mark.parametrize("family", [families.Gaussian(), families.Hurdle(families.Gamma())])
def test_the_posterior_mode_is_autodeltas(make_case, family):
    """Two roads to one maximum: EM with priors, and SVI of Pyro's AutoDelta; 1e-6 nats of the log-joint's ~250."""
    case = make_case(family, seed=1)
    mode = em(case.model, case.series, priors=True, **QUICK)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = svi(case.model, case.series, steps=400, learning_rate=0.1, tolerance=0.0)
    # Whether the ELBO repeats to the last digit within 400 steps is the machine's affair; that it is said is ours.
    assert found.converged or any("steps = 400 reached" in str(one.message) for one in said)

    def log_joint(fit) -> float:
        marginal = pyro.condition(marginalize(fit.model.program), fit.parameters)
        return float(pyro.poutine.trace(marginal).get_trace(case.series).log_prob_sum())

    assert log_joint(found) == pytest.approx(log_joint(mode), abs=1e-6)
    assert float(found.objective[-1]) == pytest.approx(log_joint(mode), abs=1e-5)


def test_weight_two_is_the_sequence_twice(case):
    """One step of EM and the scores: the first sequence with weight 2, the single step with weight 0."""
    weights = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)
    weighted = replace(case.series, weights=weights)
    repeated = case.series.take([0, 0, 2])
    one, other = (a_few_steps(case, series, 4, start=case.truth) for series in (weighted, repeated))
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-8)
    for name, value in one.parameters.items():
        torch.testing.assert_close(value, other.parameters[name], rtol=1e-7, atol=1e-9)
    # The log-likelihood of the fit is weighted; that of a sequence is its own.
    scores = one.log_prob(weighted)
    assert float((scores * weights).sum()) == pytest.approx(one.log_likelihood, abs=1e-9)


def test_missing_steps_are_integrated_out_of_em(gaussian):
    """A masked step holds a placeholder that no estimate may see: another placeholder, the same fit."""
    series = gaussian.series
    assert series.observed is not None
    values = torch.where(series.observed, series.values, torch.tensor(1e6, dtype=torch.float64))
    moved = replace(series)
    object.__setattr__(moved, "values", values)
    one, other = (em(gaussian.model, each, **QUICK) for each in (series, moved))
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-9)
    for name, value in one.parameters.items():
        # A maximum is found to the root of the objective's own rounding, 1e-16 of it.
        torch.testing.assert_close(value, other.parameters[name], rtol=1e-7, atol=1e-12)


def test_states_come_ordered_by_their_mean(case):
    fit = a_few_steps(case, case.series, 2)
    emission = {name: value for name, value in fit.parameters.items() if name not in ("initial", "transition")}
    mean = fit.model.emission.mean(emission).reshape(2, -1)[:, 0]
    assert mean[0] <= mean[1]


def test_relabelled_starts_give_one_fit(case):
    """The states of the start exchanged: the same likelihood and, once ordered, the same parameters."""
    shared = {name for name, parameter in case.model.declared(case.truth).items() if parameter.shared}
    swapped = {name: value if name in shared else value.flip(0) for name, value in case.truth.items()}
    swapped["transition"] = swapped["transition"].flip(1)
    fits = [a_few_steps(case, case.series, 4, start=start) for start in (case.truth, swapped)]
    assert fits[0].log_likelihood == pytest.approx(fits[1].log_likelihood, abs=1e-8)
    for name, value in fits[0].parameters.items():
        torch.testing.assert_close(value, fits[1].parameters[name], rtol=1e-6, atol=1e-8)


def test_recovers_what_the_series_was_drawn_from():
    """20,000 steps of two Poisson regimes: rates within 4 standard errors, about sqrt(rate / 10,000) each."""
    truth = {
        "initial": torch.tensor([0.5, 0.5], dtype=torch.float64),
        "transition": torch.tensor([[0.95, 0.05], [0.1, 0.9]], dtype=torch.float64),
        "rate": torch.tensor([2.0, 9.0], dtype=torch.float64),
    }
    model = HMM(2, families.Poisson())
    torch.manual_seed(0)
    series = Sequences.from_arrays([model_draw(model, truth, 2000) for _ in range(10)])
    fit = em(model, series, restarts=2, workers=1)
    for k, rate in enumerate((2.0, 9.0)):
        assert abs(float(fit.parameters["rate"][k]) - rate) < 4 * (rate / 6000) ** 0.5
    assert float((fit.parameters["transition"] - truth["transition"]).abs().max()) < 4 * (0.05 / 6000) ** 0.5 + 0.005


def model_draw(model: HMM, truth: dict[str, torch.Tensor], steps: int) -> torch.Tensor:
    """A series by a plain loop over time."""
    state, values = int(torch.multinomial(truth["initial"], 1)), []
    for _ in range(steps):
        values.append(torch.poisson(truth["rate"][state]))
        state = int(torch.multinomial(truth["transition"][state], 1))
    return torch.stack(values)


def test_a_start_on_the_edge_of_a_prior_is_left(make_case):
    """Maximum likelihood may start a zero-inflated law at inflation 0, where a Beta(1.1, 1.1) prior has no density."""
    case = make_case(families.ZeroInflated(families.Poisson()))
    edge = case.truth | {"inflation": torch.tensor([0.5, 0.0], dtype=torch.float64)}
    fit = em(case.model, case.series, start=edge, priors=True, **QUICK)
    inner = em(case.model, case.series, start=case.truth, priors=True, **QUICK)
    assert (fit.parameters["inflation"] > 1e-3).all()
    assert float(fit.objective[-1]) == pytest.approx(float(inner.objective[-1]), abs=1e-3)


def test_a_polished_end_counts_as_converged(make_case):
    """EM that was stopped early, but whose last stretch ended at a maximum, is not called unfinished."""
    case = make_case(families.Bernoulli())
    with pytest.warns(UserWarning, match="did not converge: max_iterations = 5 reached"):
        raw = em(case.model, case.series, max_iterations=5, polished=False, **QUICK)
    fit = em(case.model, case.series, max_iterations=5, **QUICK)
    assert not raw.converged and fit.converged
    assert "max_iterations = 5 reached; polished by L-BFGS to a maximum" in fit.stop_reason
    assert fit.log_likelihood > raw.log_likelihood


@pytest.mark.parametrize(("values", "states"), [([2.0], 1), ([2.0, 0.0, 4.0], 1), ([2.0, 0.0], 2)])
def test_edges(values, states):
    series = Sequences.from_arrays(values)
    fit = em(HMM(states, families.Poisson()), series, priors=True, restarts=1)
    assert fit.converged and torch.isfinite(fit.log_prob(series)).all()
    for value in fit.parameters.values():
        assert torch.isfinite(value).all()


def test_a_state_that_is_a_simpler_law_is_remarked():
    """Counts less dispersed than Poisson: the negative binomial's concentration has no maximum, the fit stands."""
    series = Sequences.from_arrays([[4.0, 5, 5, 6, 5, 4, 6, 5]])
    fit = em(HMM(1, families.NegativeBinomial()), series)
    assert fit.converged and "; state 0 is Poisson" in fit.stop_reason
    assert "Poisson" not in em(HMM(1, families.NegativeBinomial()), series, priors=True).stop_reason


def test_more_states_than_the_data_can_tell_apart():
    with pytest.raises(FitError, match="states 0 and 1 are the same"):
        em(HMM(2, families.Poisson()), Sequences.from_arrays([2.0]), priors=True, restarts=1)


def test_a_weight_of_zero_leaves_an_impossible_sequence_out():
    """Zero times log 0 is nothing: codes that the fixed start cannot make, in a sequence that does not count."""
    codes = torch.tensor([0, 1, 0, 1, 2, 2], dtype=torch.uint8)
    series = Sequences(codes, torch.tensor([4, 2]), categories=("a", "b", "c"), weights=torch.tensor([1.0, 0.0]))
    start = {
        "initial": torch.tensor([0.5, 0.5], dtype=torch.float64),
        "transition": torch.tensor([[0.6, 0.4], [0.3, 0.7]], dtype=torch.float64),
        "probabilities": torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], dtype=torch.float64),
    }
    fit = em(HMM(2, families.Categorical(3)), series, start=start, restarts=1)
    alone = em(HMM(2, families.Categorical(3)), series.take([0]), start=start, restarts=1)
    assert fit.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-6)
    assert torch.isneginf(fit.log_prob(series)[1])
