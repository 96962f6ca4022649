"""Chains that meet at a site, against the sum over all tuples of paths of the program as it stands."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.ops.indexing import Vindex
from pyro.optim import ClippedAdam
from scipy import stats
from torch import Tensor

from probseq import MarkovChain, Sequences, marginalize, posterior
from probseq.chains import HigherOrderMarkovChain
from probseq.chains.enumeration import Enumerate
from probseq.chains.replay import PathGivenData
from probseq.inference import em

# Sums of at most 6^4 positive terms of log-probabilities below 100.
EXACT = {"rtol": 1e-10, "atol": 1e-10}

SIZES = {"one": 2, "other": 3}
COUNTS = torch.tensor([0.0, 4.0, 9.0, 2.0], dtype=torch.float64)
MEASURES = torch.tensor([0.3, -1.0, 2.0, 0.4], dtype=torch.float64)


def leaves(random_laws, sizes: dict[str, int], seed: int = 0, matrices: int = 1) -> dict[str, Tensor]:
    """Laws of each chain that want a gradient; several matrices where asked."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, states in sizes.items():
        lead = (matrices,) if matrices > 1 else ()
        found[f"{name} initial"] = random_laws(generator, states).requires_grad_()
        found[f"{name} transition"] = random_laws(generator, *lead, states, states).requires_grad_()
    return found


@dataclass(frozen=True)
class Tuples:
    """Every tuple of paths, (P, T) by chain, with its log joint (P,)."""

    paths: dict[str, Tensor]
    joint: Tensor

    @property
    def chance(self) -> Tensor:
        return self.joint.softmax(0).detach()

    def smoothed(self, name: str, states: int) -> Tensor:
        """(T, K)."""
        return torch.stack([self.chance @ (self.paths[name] == k).double() for k in range(states)], -1)


def every_tuple(program: Callable[[], Any], sizes: dict[str, int], steps: int, log_joint) -> Tuples:
    """The oracle: condition each state site of the program on each of its paths, and add up its sites.

    All tuples are given at once, (P, T), where the step's plate has its dim; a few are given one by one as well.
    """
    single = [list(itertools.product(range(states), repeat=steps)) for states in sizes.values()]
    rows = list(itertools.product(*single))
    paths = {name: torch.tensor([row[n] for row in rows]) for n, name in enumerate(sizes)}
    trace = poutine.trace(pyro.condition(program, paths)).get_trace()  # pyright: ignore[reportArgumentType]
    trace.compute_log_prob()
    joint = torch.zeros(len(rows), dtype=torch.float64)
    for name, node in trace.nodes.items():
        if node["type"] == "sample":
            score = node["log_prob"]
            joint = joint + (score if name in sizes else score.sum(-1) if score.dim() == 2 else score.sum())
    for p in range(0, len(rows), max(1, len(rows) // 4)):
        one = log_joint(pyro.condition(program, {name: paths[name][p] for name in sizes}))  # pyright: ignore
        torch.testing.assert_close(joint[p], one, **EXACT)
    return Tuples(paths, joint)


def check(
    program: Callable[[], Any], values: list[Tensor], sizes: dict[str, int], log_joint, steps: int = 3, starts=()
) -> Tuples:
    """Value, gradient, and all that is asked of each chain."""
    exact = every_tuple(program, sizes, steps, log_joint)
    expected, found = exact.joint.logsumexp(0), log_joint(marginalize(program))
    torch.testing.assert_close(found, expected, **EXACT)
    for a, b in zip(torch.autograd.grad(found, values), torch.autograd.grad(expected, values), strict=True):
        torch.testing.assert_close(a, b, **EXACT)
    decoded = posterior(program)()
    assert set(decoded) == set(sizes)
    for name, states in sizes.items():
        smoothed = exact.smoothed(name, states)
        torch.testing.assert_close(decoded[name].smoothed, smoothed, **EXACT)
        torch.testing.assert_close(decoded[name].viterbi, exact.paths[name][exact.joint.argmax()])
        known = torch.full((steps,), -1).scatter(0, torch.tensor(1), states - 1)
        bound = decoded[name].given(known)
        chance = (bound.log_evidence.sum() - decoded[name].log_evidence.sum()).exp()
        assert float(chance) == pytest.approx(float(smoothed[1, states - 1]), abs=1e-10)
        pairs = torch.zeros(steps, states, states, dtype=torch.float64)
        inside = [t for t in range(steps - 1) if t + 1 not in starts]
        for t, i, j in itertools.product(inside, range(states), range(states)):
            here = (exact.paths[name][:, t] == i) & (exact.paths[name][:, t + 1] == j)
            pairs[t, i, j] = exact.chance[here].sum()
        torch.testing.assert_close(decoded[name].pairwise, pairs, **EXACT)
    return exact


LEVELS = torch.tensor([[0.5, 2.0], [3.0, 6.0], [9.0, 4.0]], dtype=torch.float64)


def pair(parameters: dict[str, Tensor], lengths: int | list[int] = 3, counts: Tensor = COUNTS[:3], **options: Any):
    """Counts whose rate is looked up by the states of two chains."""

    def program():
        states = [
            pyro.sample(name, MarkovChain(parameters[f"{name} initial"], parameters[f"{name} transition"], lengths))
            for name in SIZES
        ]
        with pyro.plate("step", len(counts)):
            pyro.sample("y", dist.Poisson(Vindex(LEVELS)[states[1], states[0]]), obs=counts)

    return program


def test_a_site_of_two_chains(random_laws, log_joint):
    parameters = leaves(random_laws, SIZES)
    check(pair(parameters), list(parameters.values()), SIZES, log_joint)


def test_ragged_and_structural_zeros(random_laws, log_joint):
    parameters = leaves(random_laws, SIZES, seed=4)
    with torch.no_grad():
        parameters["one transition"][0] = torch.tensor([1.0, 0.0])
        parameters["other transition"][2] = torch.tensor([0.0, 0.5, 0.5])
    free = [value for name, value in parameters.items() if "transition" not in name]
    exact = check(pair(parameters, [2, 1]), free, SIZES, log_joint, starts=(2,))
    assert torch.isneginf(exact.joint).any()


def test_time_varying_moves_of_one_or_both(random_laws, log_joint):
    """Combinations of two indices that occur, and no others, get a matrix."""
    parameters = leaves(random_laws, SIZES, seed=2, matrices=2)
    index = {"one": torch.tensor([1, 0, 0]), "other": torch.tensor([1, 1, 0])}

    def program(varying: tuple[str, ...]):
        def once():
            states = {}
            for name in SIZES:
                matrix, moves = parameters[f"{name} transition"], index[name] if name in varying else None
                matrix = matrix if name in varying else matrix[0]
                law = MarkovChain(parameters[f"{name} initial"], matrix, 3, transition_index=moves)
                states[name] = pyro.sample(name, law)
            with pyro.plate("step", 3):
                pyro.sample("y", dist.Poisson(Vindex(LEVELS)[states["other"], states["one"]]), obs=COUNTS[:3])

        return once

    values = list(parameters.values())
    check(program(("one",)), values, SIZES, log_joint)
    check(program(("one", "other")), values, SIZES, log_joint)


def test_chains_that_no_site_couples_stay_apart(random_laws, log_joint):
    """Three chains, two of them coupled after each had a site of its own; the third keeps its own factor."""
    sizes = {"slow": 2, "alone": 2, "fast": 2}
    parameters = leaves(random_laws, sizes, seed=3)
    level = torch.tensor([-1.0, 0.5], dtype=torch.float64, requires_grad=True)

    def program():
        state = {
            name: pyro.sample(name, MarkovChain(parameters[f"{name} initial"], parameters[f"{name} transition"], 3))
            for name in sizes
        }
        with pyro.plate("step", 3):
            pyro.sample("own", dist.Normal(level[state["fast"]], 1.0), obs=MEASURES[:3])
            pyro.sample("apart", dist.Normal(2.0 * level[state["alone"]], 1.0), obs=MEASURES[1:])
            pyro.sample("sum", dist.Normal(level[state["slow"]] + state["fast"], 1.0), obs=MEASURES[:3].flip(0))

    check(program, [*parameters.values(), level], sizes, log_joint)
    with torch.no_grad():
        trace = poutine.trace(marginalize(program)).get_trace()
        trace.compute_log_prob()
    assert float(trace.nodes["fast"]["log_prob_sum"]) == 0.0 != float(trace.nodes["alone"]["log_prob_sum"])


def test_three_chains_coupled_by_two_sites(random_laws, log_joint):
    sizes = {"a": 2, "b": 2, "c": 3}
    parameters = leaves(random_laws, sizes, seed=5)

    def program():
        state = {
            name: pyro.sample(name, MarkovChain(parameters[f"{name} initial"], parameters[f"{name} transition"], 2))
            for name in sizes
        }
        with pyro.plate("step", 2):
            pyro.sample("left", dist.Normal((state["b"] - state["c"]).double(), 1.0), obs=MEASURES[:2])
            pyro.sample("right", dist.Normal((state["a"] * state["b"]).double(), 0.5), obs=MEASURES[2:])

    check(program, list(parameters.values()), sizes, log_joint, steps=2)


def test_a_chain_of_order_two_with_one_of_order_one(random_laws, log_joint):
    """The values of the first are codes of two states; its posterior answers in codes, or in states when told."""
    generator = torch.Generator().manual_seed(7)
    first = random_laws(generator, 4).requires_grad_()
    moves = random_laws(generator, 2, 2, 2).requires_grad_()
    parameters = leaves(random_laws, {"other": 2}, seed=7)

    def program():
        code = pyro.sample("code", HigherOrderMarkovChain(first, moves, 3, order=2))
        other = pyro.sample("other", MarkovChain(parameters["other initial"], parameters["other transition"], 3))
        with pyro.plate("step", 3):
            pyro.sample("y", dist.Poisson(Vindex(LEVELS)[code % 2, other]), obs=COUNTS[:3])

    exact = every_tuple(program, {"code": 4, "other": 2}, 3, log_joint)
    expected, found = exact.joint.logsumexp(0), log_joint(marginalize(program))
    torch.testing.assert_close(found, expected, **EXACT)
    values = [first, moves, *parameters.values()]
    for a, b in zip(torch.autograd.grad(found, values), torch.autograd.grad(expected, values), strict=True):
        torch.testing.assert_close(a, b, **EXACT)
    decoded = posterior(program)()
    by_code = exact.smoothed("code", 4)
    torch.testing.assert_close(decoded["code"].smoothed, by_code, **EXACT)
    torch.testing.assert_close(decoded["code"].remembering(2).smoothed, by_code[:, :2] + by_code[:, 2:], **EXACT)
    torch.testing.assert_close(decoded["other"].smoothed, exact.smoothed("other", 2), **EXACT)


def test_weights_scale_and_features_in_a_plate(random_laws, log_joint):
    """Two sequences, weighted and scaled, each step seen by two features: the sum over tuples of each sequence."""
    parameters = leaves(random_laws, SIZES, seed=6)
    weights = torch.tensor([3.0, 0.5], dtype=torch.float64)
    table = torch.stack([COUNTS[:3], COUNTS[1:]])

    def program(lengths, values: Tensor, weigh: Tensor | None, scale: float):
        def once():
            with poutine.scale(scale=scale):
                state = [
                    pyro.sample(
                        name,
                        MarkovChain(
                            parameters[f"{name} initial"], parameters[f"{name} transition"], lengths, weights=weigh
                        ),
                    )
                    for name in SIZES
                ]
                with pyro.plate("feature", 2, dim=-2), pyro.plate("step", values.shape[1], dim=-1):
                    pyro.sample("y", dist.Poisson(Vindex(LEVELS)[state[1], state[0]]), obs=values)

        return once

    def evidence(steps: int, values: Tensor) -> Tensor:
        single = [itertools.product(range(states), repeat=steps) for states in SIZES.values()]
        terms = [
            log_joint(
                pyro.condition(program(steps, values, None, 1.0), {"one": torch.tensor(a), "other": torch.tensor(b)})
            )
            for a, b in itertools.product(*single)
        ]
        return torch.stack(terms).logsumexp(0)

    first, second = evidence(2, table[:, :2]), evidence(1, table[:, 2:])
    found = log_joint(marginalize(program([2, 1], table, weights, 2.5)))
    torch.testing.assert_close(found, 2.5 * (3.0 * first + 0.5 * second), **EXACT)


def test_second_derivatives(random_laws):
    def evidence(level: Tensor, turn: Tensor) -> Tensor:
        def program():
            one = pyro.sample("one", MarkovChain(turn.softmax(-1)[0], turn.softmax(-1), [2, 1]))
            other = pyro.sample("other", MarkovChain(turn.softmax(-1)[1], turn.softmax(-1), [2, 1]))
            with pyro.plate("step", 3):
                pyro.sample("y", dist.Normal(Vindex(level)[one] * Vindex(level)[other], 1.0), obs=MEASURES[:3])

        return poutine.trace(marginalize(program, max_plate_nesting=1)).get_trace().log_prob_sum()

    level = torch.tensor([-0.5, 1.2], dtype=torch.float64, requires_grad=True)
    turn = torch.tensor([[0.3, -0.4], [-1.0, 0.2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(evidence, (level, turn), check_undefined_grad=False)
    assert torch.autograd.gradgradcheck(evidence, (level, turn), check_undefined_grad=False)


def free(counts: Tensor = COUNTS):
    """Parameters of its own, for particles, guides and prediction; None in place of the counts draws them."""
    ones = torch.ones(2, dtype=torch.float64)
    transition = pyro.sample("transition", dist.Dirichlet(ones.expand(2, 2)).to_event(1))
    rate = pyro.sample("rate", dist.Gamma(2.0 * ones, 0.5 * ones).to_event(1))
    one = pyro.sample("one", MarkovChain(ones / 2, transition, [3, 1]))
    other = pyro.sample("other", MarkovChain(ones / 2, transition, [3, 1]))
    with pyro.plate("step", 4):
        return pyro.sample("y", dist.Poisson(Vindex(rate)[..., one] + 3.0 * Vindex(rate)[..., other]), obs=counts)


def points(count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(8)
    matrix = torch.rand((count, 2, 2), generator=generator, dtype=torch.float64) + 0.1
    rate = 4.0 * torch.rand((count, 2), generator=generator, dtype=torch.float64) + 0.1
    return {"transition": matrix / matrix.sum(-1, keepdim=True), "rate": rate}


def test_vectorised_particles_are_the_mean_of_single_ones():
    values, marginal = points(5), marginalize(free)

    def at(point: dict[str, Tensor]):
        def guide(*args: Any):
            for name, event in (("transition", 2), ("rate", 1)):
                pyro.sample(name, dist.Delta(point[name], event_dim=event))

        return guide

    together = Trace_ELBO(num_particles=5, vectorize_particles=True, max_plate_nesting=1)
    found = together.loss(marginal, at({name: value.unsqueeze(1) for name, value in values.items()}))
    single = [Trace_ELBO().loss(marginal, at({name: value[n] for name, value in values.items()})) for n in range(5)]
    assert found == pytest.approx(sum(single) / 5, rel=1e-12)


def test_a_guide_climbs():
    pyro.set_rng_seed(0)
    marginal = marginalize(free)
    machine = SVI(marginal, AutoNormal(marginal), ClippedAdam({"lr": 0.05}), Trace_ELBO())
    losses = [machine.step() for _ in range(60)]
    assert math.isfinite(losses[-1]) and sum(losses[-15:]) < sum(losses[:15])


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive_draws_pairs_of_paths_from_their_joint_law(log_joint, parallel):
    """Draws at one set of parameters against p(both paths | y); chi-squared below p = 1e-4 fails."""
    pyro.set_rng_seed(1)
    size = 20_000 if parallel else 600
    point = {name: value[0] for name, value in points(1).items()}
    many = {name: value.expand(size, *value.shape) for name, value in point.items()}
    found = Predictive(marginalize(free), many, parallel=parallel, return_sites=["one", "other"])(COUNTS)
    exact = every_tuple(pyro.condition(free, point), {"one": 2, "other": 2}, 4, log_joint)  # pyright: ignore
    place = 2 ** torch.arange(3, -1, -1)
    code = (found["one"].reshape(-1, 4) * place).sum(1) * 16 + (found["other"].reshape(-1, 4) * place).sum(1)
    counts, expected = torch.bincount(code, minlength=256).double(), exact.chance * size
    common = expected >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    hoped = torch.cat([expected[common], expected[~common].sum()[None]])
    statistic = float(((observed - hoped).square() / hoped).sum())
    assert stats.chi2.sf(statistic, len(hoped) - 1) > 1e-4


def test_law_of_a_path_given_the_data(random_laws, log_joint):
    """Of one chain with the other summed out, of the pair, and of a single chain: the shares of all paths."""
    parameters = leaves(random_laws, SIZES, seed=9)
    exact = every_tuple(pair(parameters), SIZES, 3, log_joint)
    with torch.no_grad(), Enumerate(-2) as reading:
        pair(parameters)()
    (chain,) = reading.chains
    for site, digit in zip(chain.sites, chain.digits, strict=True):
        law = PathGivenData(chain.law, chain.log_table, digit)
        for path in itertools.product(range(SIZES[site.name]), repeat=3):
            share = exact.chance[(exact.paths[site.name] == torch.tensor(path)).all(1)].sum()
            assert float(law.log_prob(torch.tensor(path)).exp()) == pytest.approx(float(share), abs=1e-12)
    whole = PathGivenData(chain.law, chain.log_table)
    found = torch.stack([whole.log_prob(path) for path in chain.codes(exact.paths)])
    torch.testing.assert_close(found.exp(), exact.chance, **EXACT)


def test_prediction_of_the_site_that_couples_them():
    """Without data: the mean of y at each step is the sum of the two chains' means, within 4 standard errors."""
    pyro.set_rng_seed(2)
    point = {name: value[0] for name, value in points(1).items()}
    many = {name: value.expand(4000, *value.shape) for name, value in point.items()}
    y = Predictive(marginalize(free), many, parallel=True, return_sites=["y"])(None)["y"].reshape(-1, 4)
    law = torch.full((2,), 0.5, dtype=torch.float64)
    for step in range(3):
        mean = float(4.0 * law @ point["rate"])
        assert abs(float(y[:, step].mean()) - mean) < 4 * float(y[:, step].std()) / 4000**0.5
        law = law @ point["transition"]


def test_em_climbs_to_a_stationary_point(log_joint):
    """Two hidden switches whose effects add: EM never falls, and ends where the exact gradient vanishes."""
    generator = torch.Generator().manual_seed(0)
    low, high = (torch.repeat_interleave(torch.randint(2, (n,), generator=generator), 60 // n) for n in (6, 15))
    counts = torch.poisson(1.0 + 4.0 * low + 9.0 * high, generator=generator).double()

    def program(series: Sequences):
        ones = torch.ones(2, dtype=torch.float64)
        stay = pyro.sample("stay", dist.Beta(8.0 * ones, 2.0 * ones).to_event(1))
        matrix = torch.stack([torch.stack([stay, 1 - stay], -1), torch.stack([1 - stay, stay], -1)], -2)
        effect = pyro.sample("effect", dist.Gamma(2.0 * ones, 0.5 * ones).to_event(1))
        state = [pyro.sample(f"state{n}", MarkovChain(ones / 2, matrix[n], series.lengths)) for n in range(2)]
        with pyro.plate("step", series.total_steps):
            rate = 1.0 + effect[0] * state[0] + effect[1] * state[1]
            pyro.sample("y", dist.Poisson(rate), obs=series.values)

    series = Sequences.from_arrays(counts)
    fit = em(program, series, priors=True, restarts=2)
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(fit.objective))
    best = {name: value.clone().requires_grad_() for name, value in fit.parameters.items()}
    objective = log_joint(pyro.condition(lambda: marginalize(program)(series), best))  # pyright: ignore
    assert float(objective.detach()) == pytest.approx(float(fit.objective[-1]), abs=1e-6)
    # A change of 1e-3 in any parameter would gain less than 1e-3 * 0.05, far inside the stopping rule.
    for gradient in torch.autograd.grad(objective, list(best.values())):
        assert float(gradient.abs().max()) < 0.5
    effects = sorted(fit.parameters["effect"].tolist())
    assert effects[0] == pytest.approx(4.0, abs=1.5) and effects[1] == pytest.approx(9.0, abs=2.0)
    assert set(posterior(program, fit.parameters)(series)) == {"state0", "state1"}
