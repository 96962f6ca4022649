"""Generic EM and SVI of a user's own program: the answers of the HMM that it is, and programs that are none."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from probseq import HMM, Fit, MarkovChain, ModelError, Sequences, em, families, marginalize, posterior, svi
from probseq.chains import FreeInitial, FreeTransitions

ONES = torch.ones(2, dtype=torch.float64)
LOW, HIGH = torch.tensor(0.1, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)


def counts(series: Sequences):
    """Two Poisson regimes, as anyone would write them."""
    initial = pyro.sample("initial", dist.Dirichlet(1.1 * ONES))
    transition = pyro.sample("transition", dist.Dirichlet(1.1 * ONES.expand(2, 2)).to_event(1))
    rate = pyro.sample("rate", dist.Gamma(HIGH, LOW).expand([2]).to_event(1))
    state = pyro.sample("state", MarkovChain(initial, transition, series.lengths, weights=series.weights))
    with pyro.plate("step", series.total_steps), pyro.poutine.mask(mask=series.step_observed):
        pyro.sample("y", dist.Poisson(rate[state]), obs=series.values)


EQUIVALENT = HMM(2, families.Poisson(), FreeInitial(1.1), FreeTransitions(1.1), priors={"rate": dist.Gamma(HIGH, LOW)})


def two_rates(weights: bool = False) -> Sequences:
    rng = np.random.default_rng(1)
    values = [np.concatenate([rng.poisson(rate, 15).astype(float) for rate in (2, 9, 2)]) for _ in range(2)]
    values[1][4] = np.nan
    return Sequences.from_arrays(values, weights=[2.0, 0.5] if weights else None)


@pytest.mark.parametrize("priors", [False, True])
@pytest.mark.parametrize("weights", [False, True])
def test_generic_em_is_closed_form_em(priors, weights):
    """Step by step from one start, and at the end."""
    series = two_rates(weights)
    start = {
        "initial": torch.tensor([0.4, 0.6], dtype=torch.float64),
        "transition": torch.tensor([[0.8, 0.2], [0.3, 0.7]], dtype=torch.float64),
        "rate": torch.tensor([3.0, 6.0], dtype=torch.float64),
    }
    options = {"start": start, "priors": priors, "tolerance": 0.0, "polished": False, "max_iterations": 5}
    with pytest.warns(UserWarning, match="max_iterations = 5"):
        generic, closed = (em(model, series, **options) for model in (counts, EQUIVALENT))
    # An M-step of the program ends by L-BFGS once a step's loss changes by 2e-9 of itself: short of the closed form.
    torch.testing.assert_close(generic.objective, closed.objective, rtol=0, atol=5e-3)
    assert (generic.objective.diff() > 0).all()
    for name, value in closed.parameters.items():
        torch.testing.assert_close(generic.parameters[name], value, rtol=0.02, atol=0.01)
    ends = [em(model, series, start=start, priors=priors) for model in (counts, EQUIVALENT)]
    assert ends[0].log_likelihood == pytest.approx(ends[1].log_likelihood, abs=1e-4)
    assert float(ends[0].objective[-1]) == pytest.approx(float(ends[1].objective[-1]), abs=1e-6)
    assert ends[0].n_parameters == ends[1].n_parameters == 5
    assert (ends[0].bic, ends[0].observations) == (pytest.approx(ends[1].bic, abs=1e-3), ends[1].observations)
    found, expected = (fit.posterior(series) for fit in ends)
    torch.testing.assert_close(found.smoothed, expected.smoothed, rtol=0, atol=1e-3)
    assert torch.equal(found.viterbi, expected.viterbi)


def storms(series: Sequences):
    """Ten lines that are no HMM of the package: two sites, a covariate, a pull towards the value before."""
    initial = pyro.sample("initial", dist.Dirichlet(1.1 * ONES))
    transition = pyro.sample("transition", dist.Dirichlet(1.1 * ONES.expand(2, 2)).to_event(1))
    level = pyro.sample("level", dist.Normal(0.0 * ONES, 5.0).to_event(1))
    pull = pyro.sample("pull", dist.Normal(0.0 * LOW, 1.0))
    slope = pyro.sample("slope", dist.Normal(0.0 * LOW, 1.0))
    state = pyro.sample("state", MarkovChain(initial, transition, series.lengths, weights=series.weights))
    before = torch.cat([series.values[:1, 0], series.values[:-1, 0]])
    with pyro.plate("step", series.total_steps):
        pyro.sample("size", dist.Normal(level[state] + pull * before, 1.0), obs=series.values[:, 0])
        pyro.sample(
            "count", dist.Poisson((0.5 + state + slope * series.covariates[:, 0]).exp()), obs=series.values[:, 1]
        )


def stormy(sequences: int = 1) -> Sequences:
    rng = np.random.default_rng(2)
    arrays, inputs = [], []
    for _ in range(sequences):
        state, size, rows, covariate = 0, 0.0, [], rng.normal(0, 0.5, 60)
        for t in range(60):
            state = 1 - state if rng.random() < 0.1 else state
            size = (-2.0, 3.0)[state] + 0.3 * size + rng.normal()
            rows.append([size, rng.poisson(math.exp(0.5 + state + 0.4 * covariate[t]))])
        arrays.append(np.array(rows))
        inputs.append(covariate[:, None])
    return Sequences.from_arrays(arrays, covariates=inputs)


def slope_of(program, parameters, series, priors: bool = True) -> dict[str, torch.Tensor]:
    """Gradient of the marginalised log-joint in the program's unconstrained coordinates."""
    trace = pyro.poutine.trace(program).get_trace(series)
    leaves, values = {}, {}
    for name, value in parameters.items():
        transform = torch.distributions.biject_to(trace.nodes[name]["fn"].support)
        leaves[name] = transform.inv(value).requires_grad_()
        values[name] = transform(leaves[name])
    total = pyro.poutine.trace(pyro.condition(marginalize(program), values)).get_trace(series).log_prob_sum()
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


def test_generic_em_climbs_to_a_posterior_mode():
    series = stormy()
    fit = em(storms, series, priors=True, restarts=2)
    assert (fit.objective.diff() >= -1e-8 * fit.objective[1:].abs()).all()
    assert fit.converged and fit.n_parameters == 7
    for name, slope in slope_of(storms, fit.parameters, series).items():
        assert float(slope.abs().max()) < 0.02, name
    assert fit.posterior(series).viterbi.shape == (60,)
    assert float(fit.log_prob(series).sum()) < fit.log_likelihood + 1e-6


def test_svi_and_em_agree_on_the_mode_of_a_program():
    series = stormy()
    mode = em(storms, series, priors=True, restarts=1)
    with pytest.warns(UserWarning, match="steps = 200"):
        found = svi(storms, series, steps=200, learning_rate=0.1, tolerance=0.0)
    assert float(found.objective[-1]) == pytest.approx(float(mode.objective[-1]), abs=0.01)


def test_two_chains_by_generic_em():
    """Each chain sees its own column: the fit is that of each by itself."""

    def both(series: Sequences):
        for name, column in (("one", 0), ("other", 1)):
            transition = pyro.sample(f"transition_{name}", dist.Dirichlet(1.1 * ONES.expand(2, 2)).to_event(1))
            rate = pyro.sample(f"rate_{name}", dist.Gamma(HIGH, LOW).expand([2]).to_event(1))
            state = pyro.sample(name, MarkovChain(0.5 * ONES, transition, series.lengths))
            with pyro.plate(f"step_{name}", series.total_steps):
                pyro.sample(f"y_{name}", dist.Poisson(rate[state]), obs=series.values[:, column])

    def single(column: int):
        def program(series: Sequences):
            transition = pyro.sample("transition", dist.Dirichlet(1.1 * ONES.expand(2, 2)).to_event(1))
            rate = pyro.sample("rate", dist.Gamma(HIGH, LOW).expand([2]).to_event(1))
            state = pyro.sample("state", MarkovChain(0.5 * ONES, transition, series.lengths))
            with pyro.plate("step", series.total_steps):
                pyro.sample("y", dist.Poisson(rate[state]), obs=series.values[:, column])

        return program

    rng = np.random.default_rng(1)
    table = np.stack([rng.poisson(np.repeat([2, 9], 20)), rng.poisson(np.tile(np.repeat([1, 7], 5), 4))], 1)
    series = Sequences.from_arrays(table.astype(float))
    fit = em(both, series, priors=True, restarts=1)
    parts = [em(single(column), series, priors=True, restarts=1) for column in (0, 1)]
    expected = sum(float(part.objective[-1]) for part in parts)
    assert float(fit.objective[-1]) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ModelError, match="one chain, got the chains one, other"):
        fit.posterior(series)
    assert set(posterior(both, fit.parameters)(series)) == {"one", "other"}


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (lambda series: pyro.sample("x", dist.Normal(LOW, 1.0)), "must have a state site"),
        (lambda series: pyro.sample("state", MarkovChain(pyro.param("p", 0.5 * ONES), torch.eye(2), 1)), "pyro.param"),
    ],
)
def test_programs_that_em_cannot_fit(program, message):
    with pytest.raises(ModelError, match=message):
        em(program, two_rates())


def test_a_program_with_an_open_site_is_refused():
    def program(series: Sequences):
        state = pyro.sample("state", MarkovChain(0.5 * ONES, torch.full((2, 2), 0.5).double(), series.lengths))
        with pyro.plate("step", series.total_steps):
            pyro.sample("y", dist.Normal(state * 1.0, 1.0))

    with pytest.raises(ModelError, match=r"\['y'\] depend on a state and must be observed for EM"):
        em(program, two_rates())


def test_a_program_that_ignores_the_weights_is_refused():
    def program(series: Sequences):
        state = pyro.sample("state", MarkovChain(0.5 * ONES, torch.full((2, 2), 0.5).double(), series.lengths))
        with pyro.plate("step", series.total_steps):
            pyro.sample("y", dist.Poisson(1.0 + state), obs=series.values)

    with pytest.raises(ModelError, match="weights=series.weights"):
        em(program, two_rates(weights=True))


def test_a_fit_of_a_program_is_saved_without_its_code(tmp_path):
    series = two_rates()
    fit = em(counts, series, restarts=1)
    fit.save(tmp_path / "fit")
    loaded = Fit.load(tmp_path / "fit", counts)
    assert torch.equal(loaded.log_prob(series), fit.log_prob(series))
    with pytest.raises(ModelError, match=r"user's own program \('counts'\) must be loaded with it"):
        Fit.load(tmp_path / "fit")


def test_forecast_of_a_program_is_refused():
    fit = em(counts, two_rates(), restarts=1)
    for ask in (lambda: fit.forecast(two_rates(), 3), lambda: fit.simulate(3, seed=0)):
        with pytest.raises(ModelError, match="Predictive"):
            ask()
