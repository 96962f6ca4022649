"""Vectorised particles, guides and prediction: equal to the sequential ones, exactly where nothing is random."""

from __future__ import annotations

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceGraph_ELBO
from pyro.infer.autoguide import AutoDelta, AutoLaplaceApproximation, AutoMultivariateNormal, AutoNormal
from pyro.ops.indexing import Vindex
from pyro.optim import ClippedAdam
from scipy import stats

from probseq import MarkovChain, marginalize, posterior

EXACT = {"rtol": 1e-10, "atol": 1e-10}  # double rounding of sums of a few hundred terms

COUNTS = torch.tensor([0.0, 1.0, 7.0, 5.0, 2.0], dtype=torch.float64)
TWO = torch.tensor(2.0, dtype=torch.float64)


def program(counts=COUNTS, seen=None):
    """Poisson counts; None in place of the counts draws them, `seen` masks steps."""
    flat = torch.ones(2, dtype=torch.float64)
    initial = pyro.sample("initial", dist.Dirichlet(flat))
    transition = pyro.sample("transition", dist.Dirichlet(flat.expand(2, 2)).to_event(1))
    rate = pyro.sample("rate", dist.Gamma(TWO, 0.5).expand([2]).to_event(1))
    state = pyro.sample("state", MarkovChain(initial, transition, [3, 2]))
    with pyro.plate("step", 5):
        law = dist.Poisson(Vindex(rate)[..., state])
        return pyro.sample("y", law if seen is None else law.mask(seen), obs=counts)


def draws(count: int) -> dict[str, torch.Tensor]:
    """Parameters (S, ...) from a seeded generator."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        simplex = dist.Dirichlet(torch.ones(2, dtype=torch.float64))
        rate = torch.tensor([1.0, 6.0], dtype=torch.float64) * (1.0 + torch.rand(count, 2, dtype=torch.float64))
        return {"initial": simplex.sample((count,)), "transition": simplex.sample((count, 2)), "rate": rate}


def guide_at(values: dict[str, torch.Tensor], vectorised: bool, looks: int = 0):
    """A guide whose particles are the given rows: all at once left of the plates, or the next one at each call.

    An ELBO that must guess the plates first runs it that often outside of its own: `looks`.
    """
    events = {"initial": 1, "transition": 2, "rate": 1}
    calls = itertools.count()

    def guide(*args, **kwargs):
        call = next(calls)
        for name, value in values.items():
            chosen = value.unsqueeze(1) if vectorised and call >= looks else value[call]
            pyro.sample(name, dist.Delta(chosen, event_dim=events[name]))

    return guide


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceGraph_ELBO])
def test_vectorised_particles_are_the_mean_of_single_ones(elbo):
    values, marginal = draws(7), marginalize(program)
    together = elbo(num_particles=7, vectorize_particles=True, max_plate_nesting=1)
    together = together.loss(marginal, guide_at(values, vectorised=True))
    one_by_one = elbo(num_particles=7).loss(marginal, guide_at(values, vectorised=False))
    single = [elbo().loss(marginal, guide_at({n: v[s][None] for n, v in values.items()}, False)) for s in range(7)]
    assert len(set(single)) == 7
    assert together == pytest.approx(sum(single) / 7, rel=1e-12)
    assert one_by_one == pytest.approx(sum(single) / 7, rel=1e-12)


def test_plate_nesting_is_found_for_vectorised_particles():
    """Trace_ELBO guesses where its own plate may go from the sites that it sees: the hidden ones must show."""
    values = draws(5)
    guessed = Trace_ELBO(num_particles=5, vectorize_particles=True)
    expected = Trace_ELBO(num_particles=5).loss(marginalize(program), guide_at(values, vectorised=False))
    found = guessed.loss(marginalize(program), guide_at(values, vectorised=True, looks=1))
    assert guessed.max_plate_nesting == 2  # that of the steps, and its own
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_plate_outside_batches_the_whole_program():
    """Seven programs side by side in an outer plate score as each alone."""
    values = draws(7)
    shaped = {name: value.unsqueeze(1) for name, value in values.items()}

    def many():
        with pyro.plate("world", 7, dim=-2):
            return marginalize(program)()

    together = pyro.poutine.trace(pyro.condition(many, shaped)).get_trace().log_prob_sum()
    single = [
        pyro.poutine.trace(pyro.condition(marginalize(program), {n: v[s] for n, v in values.items()}))
        .get_trace()
        .log_prob_sum()
        for s in range(7)
    ]
    torch.testing.assert_close(together, torch.stack(single).sum(), **EXACT)


@pytest.mark.parametrize(
    ("guide", "vectorised"),
    [(AutoDelta, False), (AutoNormal, False), (AutoNormal, True), (AutoMultivariateNormal, True)],
)
def test_autoguides_climb(guide, vectorised):
    pyro.set_rng_seed(0)
    marginal = marginalize(program)
    made = guide(marginal)
    elbo = Trace_ELBO(num_particles=3, vectorize_particles=vectorised)
    machine = SVI(marginal, made, ClippedAdam({"lr": 0.05}), elbo)
    losses = [machine.step() for _ in range(50)]
    assert sum(losses[-15:]) < sum(losses[:15])
    assert all(torch.isfinite(value).all() for value in made.median().values())


def test_laplace_approximation_has_the_exact_hessian():
    """Its covariance is the inverse Hessian of the negative log-joint, here by central differences."""
    pyro.set_rng_seed(0)
    marginal = marginalize(program)
    guide = AutoLaplaceApproximation(marginal)
    machine = SVI(marginal, guide, ClippedAdam({"lr": 0.05, "lrd": 0.995}), Trace_ELBO())
    for _ in range(100):
        machine.step()
    loc = guide.loc.detach()

    def minus_log_joint(point: torch.Tensor) -> torch.Tensor:
        values = {}
        for site, unconstrained in guide._unpack_latent(point):
            transform = torch.distributions.biject_to(site["fn"].support)
            value = transform(unconstrained)
            values[site["name"]] = value
        with torch.no_grad():
            trace = pyro.poutine.trace(pyro.condition(marginal, values)).get_trace()
            total = trace.log_prob_sum()
            for site, unconstrained in guide._unpack_latent(point):
                transform = torch.distributions.biject_to(site["fn"].support)
                total = total + transform.log_abs_det_jacobian(unconstrained, values[site["name"]]).sum()
        return -total

    size, step = len(loc), 1e-3
    hessian = torch.zeros(size, size, dtype=torch.float64)
    unit = step * torch.eye(size, dtype=torch.float64)
    for i, j in itertools.product(range(size), repeat=2):
        signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
        values = [a * b * minus_log_joint(loc + a * unit[i] + b * unit[j]) for a, b in signs]
        hessian[i, j] = sum(values) / (4 * step * step)
    found = guide.laplace_approximation().get_posterior()
    precision = torch.linalg.inv(found.scale_tril @ found.scale_tril.mT)
    # Central differences of step 1e-3 err by about step^2 = 1e-6 and rounding 1e-16 * 30 / step^2 = 1e-8.
    torch.testing.assert_close(precision.detach(), hessian, rtol=1e-4, atol=1e-4)


def test_predictive_draws_states_from_their_law_given_the_data():
    """20,000 draws at one set of parameters against p(path | y); chi-squared below p = 1e-4 fails."""
    pyro.set_rng_seed(1)
    point = {name: value[:1].expand(20_000, *value.shape[1:]) for name, value in draws(1).items()}
    found = Predictive(marginalize(program), point, parallel=True, return_sites=["state"])()["state"].reshape(-1, 5)
    check_law_of_paths(found, {name: value[0] for name, value in point.items()})


def test_sequential_predictive_draws_from_the_same_law():
    pyro.set_rng_seed(2)
    point = {name: value[:1].expand(800, *value.shape[1:]) for name, value in draws(1).items()}
    found = Predictive(marginalize(program), point, return_sites=["state"])()["state"].reshape(-1, 5)
    check_law_of_paths(found, {name: value[0] for name, value in point.items()})


def check_law_of_paths(found: torch.Tensor, parameters: dict[str, torch.Tensor]) -> None:
    paths = torch.tensor(list(itertools.product((0, 1), repeat=5)))
    joint = torch.stack(
        [
            pyro.poutine.trace(pyro.condition(program, parameters | {"state": path})).get_trace().log_prob_sum()
            for path in paths
        ]
    )
    expected = (joint - joint.logsumexp(0)).exp() * len(found)
    counts = torch.bincount((found * 2 ** torch.arange(4, -1, -1)).sum(1), minlength=32).double()
    common = expected >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    hoped = torch.cat([expected[common], expected[~common].sum()[None]])
    statistic = float(((observed - hoped).square() / hoped.clamp_min(1e-300)).sum())
    assert stats.chi2.sf(statistic, len(hoped) - 1) > 1e-4


def test_predictive_of_several_draws_is_exact_where_nothing_is_random():
    """States so far apart that p(path | y) is one path: parallel and sequential give it for every draw."""
    values = draws(6) | {"rate": torch.tensor([1e-3, 1e3], dtype=torch.float64).expand(6, 2)}
    counts = torch.tensor([0.0, 1000.0, 1010.0, 0.0, 990.0], dtype=torch.float64)
    for parallel in (False, True):
        found = Predictive(marginalize(program), values, parallel=parallel, return_sites=["state"])(counts)
        assert found["state"].reshape(6, 5).tolist() == [[0, 1, 1, 0, 1]] * 6


@pytest.mark.parametrize("parallel", [False, True])
def test_unobserved_data_are_drawn_from_the_state_conditional_mixture(parallel):
    """Without data the marginalised program is the program: means of y at each step over draws of the state.

    sum_k p(z_t = k) rate_k, and E y_t y_t+1, against 4 standard errors of 4,000 (1,000 sequential) draws.
    """
    pyro.set_rng_seed(3)
    size = 4000 if parallel else 1000
    one = {name: value[0] for name, value in draws(1).items()}
    point = {name: value.expand(size, *value.shape) for name, value in one.items()}
    sites = ["state", "y"]
    found = Predictive(marginalize(program), point, parallel=parallel, return_sites=sites)(None)
    y, state = found["y"].reshape(-1, 5), found["state"].reshape(-1, 5)
    first, moved = one["initial"], one["initial"] @ one["transition"]
    expected = torch.stack([first @ one["rate"], moved @ one["rate"]])
    error = y[:, :2].std(0) / size**0.5
    assert ((y[:, :2].mean(0) - expected).abs() < 4 * error).all()
    together = (first * one["rate"]) @ one["transition"] @ one["rate"]
    product = y[:, 0] * y[:, 1]
    assert abs(float(product.mean() - together)) < 4 * float(product.std()) / size**0.5
    # y goes with the state that is returned beside it.
    for k in range(2):
        mine = y[state == k]
        assert abs(float(mine.mean() - one["rate"][k])) < 4 * float(mine.std()) / len(mine) ** 0.5


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_returns_what_was_observed_as_of_any_program(parallel):
    """The sites and values of the program as it stands; the observed ones once for each draw."""
    point = draws(3)
    found = Predictive(marginalize(program), point, parallel=parallel)()
    plain = Predictive(program, point)()
    assert set(found) == set(plain) == {"state", "y"}
    assert {name: value.numel() for name, value in found.items()} == {"state": 15, "y": 15}
    torch.testing.assert_close(found["y"].reshape(3, 5), COUNTS.expand(3, 5))


def test_missing_data_are_drawn_given_what_was_seen():
    """One site observed, one left open: y given the state, the state given what was seen."""
    pyro.set_rng_seed(4)
    seen, size = torch.tensor([2.0, 9.0, 0.0], dtype=torch.float64), 5000
    laws = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([[0.8, 0.2], [0.3, 0.7]], dtype=torch.float64)
    rate, level = torch.tensor([1.0, 6.0], dtype=torch.float64), torch.tensor([-3.0, 4.0], dtype=torch.float64)

    def two_sites():
        state = pyro.sample("state", MarkovChain(*laws, 3))
        with pyro.plate("step", 3):
            pyro.sample("count", dist.Poisson(rate[state]), obs=seen)
            pyro.sample("size", dist.Normal(level[state], 1.0))

    found = Predictive(marginalize(two_sites), num_samples=size, parallel=True)()
    alone = posterior(without_size(laws, rate, seen))()["state"].smoothed
    mean = found["size"].reshape(size, 3)
    error = mean.std(0) / size**0.5
    assert ((mean.mean(0) - alone @ level).abs() < 4 * error).all()


def without_size(laws, rate, seen):
    def one_site():
        state = pyro.sample("state", MarkovChain(*laws, 3))
        with pyro.plate("step", 3):
            pyro.sample("count", dist.Poisson(rate[state]), obs=seen)

    return one_site


def test_an_open_site_does_not_change_the_likelihood():
    """A site that depends on the state and is not observed integrates to one."""
    laws = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([[0.8, 0.2], [0.3, 0.7]], dtype=torch.float64)
    rate, seen = torch.tensor([1.0, 6.0], dtype=torch.float64), torch.tensor([2.0, 9.0, 0.0], dtype=torch.float64)
    level = torch.tensor([-3.0, 4.0], dtype=torch.float64)

    def open_site():
        state = pyro.sample("state", MarkovChain(*laws, 3))
        with pyro.plate("step", 3):
            pyro.sample("count", dist.Poisson(rate[state]), obs=seen)
            pyro.sample("size", dist.Normal(level[state], 1.0))

    trace = pyro.poutine.trace(marginalize(open_site)).get_trace()
    trace.compute_log_prob()
    closed = pyro.poutine.trace(marginalize(without_size(laws, rate, seen))).get_trace().log_prob_sum()
    torch.testing.assert_close(trace.nodes["state"]["log_prob_sum"], closed, **EXACT)
