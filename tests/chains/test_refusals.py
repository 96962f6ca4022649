"""What cannot be summed out raises with the remedy; what is conditioned inside works as in Pyro."""

from __future__ import annotations

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal

from probseq import MarkovChain, ModelError, marginalize, posterior

LAWS = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([[0.8, 0.2], [0.3, 0.7]], dtype=torch.float64)
RATE = torch.tensor([1.0, 6.0], dtype=torch.float64)
COUNTS = torch.tensor([2.0, 9.0, 0.0, 1.0], dtype=torch.float64)
PATH = torch.tensor([0, 1, 0, 0])


def chain(lengths=4) -> MarkovChain:
    return MarkovChain(*LAWS, lengths)


def program(counts=COUNTS):
    state = pyro.sample("state", chain())
    with pyro.plate("step", 4):
        pyro.sample("y", dist.Poisson(RATE[state]), obs=counts)
    return state


# ---- values for the state ------------------------------------------------------------------------------------------


def test_condition_inside_scores_that_path():
    given = pyro.condition(program, {"state": PATH})
    expected = poutine.trace(given).get_trace().log_prob_sum()
    trace = poutine.trace(marginalize(given)).get_trace()
    torch.testing.assert_close(trace.log_prob_sum(), expected)
    assert trace.nodes["state"]["value"].tolist() == PATH.tolist()


def test_do_inside_takes_the_path_without_its_probability():
    """An intervention cuts the chain: only the observations are scored."""
    cut = marginalize(pyro.do(program, {"state": PATH}))
    found = poutine.trace(cut).get_trace().log_prob_sum()
    torch.testing.assert_close(found, dist.Poisson(RATE[PATH]).log_prob(COUNTS).sum())


@pytest.mark.parametrize("handler", [pyro.condition, pyro.do])
def test_a_value_for_the_state_from_outside_raises(handler):
    with pytest.raises(ModelError, match="State site 'state' is summed out and must not be given a value.*marginalize"):
        poutine.trace(handler(marginalize(program), {"state": PATH})).get_trace()


def test_conditioning_a_parameter_from_outside_works():
    def with_rate():
        rate = pyro.sample("rate", dist.Gamma(RATE, 1.0).to_event(1))
        state = pyro.sample("state", chain())
        with pyro.plate("step", 4):
            pyro.sample("y", dist.Poisson(rate[state]), obs=COUNTS)

    given = {"rate": RATE}
    inside = poutine.trace(marginalize(pyro.condition(with_rate, given))).get_trace().log_prob_sum()
    outside = poutine.trace(pyro.condition(marginalize(with_rate), given)).get_trace().log_prob_sum()
    torch.testing.assert_close(outside, inside)


# ---- sites that depend on the state --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "law",
    [
        lambda z: dist.Poisson(RATE[z]).to_event(1),
        lambda z: dist.Poisson(RATE[z]).to_event(2 if z.dim() == 2 else 1),
        lambda z: dist.MultivariateNormal(RATE[z], torch.eye(4).double()),
        lambda z: dist.Poisson(RATE[z]),
    ],
)
def test_a_site_outside_a_step_plate(law):
    def bare():
        state = pyro.sample("state", chain())
        pyro.sample("y", law(state), obs=COUNTS)

    with pytest.raises(ModelError, match=r"Site 'y' .*plate of its 4 steps.*pyro\.plate\('step', 4\)"):
        marginalize(bare)()


def test_a_vector_that_no_state_touches_needs_no_plate():
    """An observed matrix before and after the chain, which stands on as many dims as an enumerated state."""
    matrix = torch.arange(8.0).double().reshape(4, 2)

    def free():
        pyro.sample("before", dist.Normal(0.0, torch.ones(4, 2).double()).to_event(2), obs=matrix)
        state = pyro.sample("state", chain())
        with pyro.plate("step", 4):
            pyro.sample("y", dist.Poisson(RATE[state]), obs=COUNTS)
            pyro.sample("row", dist.Normal(0.0, torch.ones(4, 2).double()).to_event(1), obs=matrix)
        pyro.sample("after", dist.Normal(0.0, torch.ones(4, 2).double()).to_event(2), obs=matrix)

    extra = 3 * dist.Normal(torch.zeros(()).double(), 1.0).log_prob(matrix).sum()
    plain = poutine.trace(marginalize(program)).get_trace().log_prob_sum()
    torch.testing.assert_close(poutine.trace(marginalize(free)).get_trace().log_prob_sum(), plain + extra)


def test_a_plate_of_another_size():
    def other():
        state = pyro.sample("state", chain())
        with pyro.plate("feature", 3):
            pyro.sample("y", dist.Poisson(RATE[state]), obs=COUNTS[:3])

    with pytest.raises(ModelError, match="must score step by step in a plate of its 4 steps at dim -1"):
        marginalize(other)()


@pytest.mark.parametrize("reading", [lambda z: z[0], lambda z: z[1:], lambda z: z[..., -1:]])
def test_taking_steps_out_of_the_state(reading):
    def sliced():
        state = pyro.sample("state", chain())
        pyro.sample("y", dist.Poisson(RATE[reading(state)]), obs=COUNTS[0])

    with pytest.raises(ModelError, match="state that is summed out must not be indexed by step"):
        marginalize(sliced)()


@pytest.mark.parametrize(
    "reading",
    [
        lambda z: z.roll(1),
        lambda z: torch.roll(z, 1, -1),
        lambda z: torch.cat([torch.zeros(1).long(), z.diff()]),
        lambda z: z.flip(-1),
        lambda z: z.cumsum(-1),
        lambda z: torch.stack(list(z)),
        lambda z: torch.tensor(z.tolist()),
        lambda z: torch.zeros(len(z)).long(),
    ],
)
def test_joining_or_moving_the_steps_of_the_state(reading):
    def mixed():
        state = pyro.sample("state", chain())
        with pyro.plate("step", 4):
            pyro.sample("y", dist.Poisson(RATE[reading(state)]), obs=COUNTS)

    assert torch.isfinite(poutine.trace(pyro.condition(mixed, {"state": PATH})).get_trace().log_prob_sum())
    with pytest.raises(ModelError, match="state that is summed out must not be indexed by step, got [a-z_]+"):
        marginalize(mixed)()


def test_a_state_that_a_guide_or_a_trace_would_replay_raises():
    """Pyro's replay passes over observed sites, so that the value would be dropped without a word."""
    drawn = poutine.trace(program).get_trace()
    with pytest.raises(ModelError, match="State site 'state' is summed out and must not be given a value, got one of"):
        poutine.replay(marginalize(program), trace=drawn)()
    with pytest.raises(ModelError, match="State site 'state' is summed out"):  # the guide of an ELBO
        Trace_ELBO().loss(marginalize(program), lambda: pyro.sample("state", chain()))
    again = poutine.replay(marginalize(program), trace=poutine.trace(marginalize(program)).get_trace())
    assert torch.isfinite(poutine.trace(again).get_trace().log_prob_sum())


def test_an_open_site_used_by_an_observed_one():
    def chained():
        state = pyro.sample("state", chain())
        with pyro.plate("step", 4):
            level = pyro.sample("level", dist.Normal(RATE[state], 1.0))
            pyro.sample("y", dist.Normal(level, 1.0), obs=COUNTS)

    with pytest.raises(ModelError, match=r"Site 'y' .*observed sites only, got .*'level'"):
        marginalize(chained)()


def test_a_guide_for_a_site_that_depends_on_the_state():
    def open_site():
        state = pyro.sample("state", chain())
        with pyro.plate("step", 4):
            pyro.sample("level", dist.Normal(RATE[state], 1.0))
            pyro.sample("y", dist.Poisson(RATE[state]), obs=COUNTS)

    def guide():
        with pyro.plate("step", 4):
            pyro.sample("level", dist.Normal(COUNTS, 1.0))

    with pytest.raises(ModelError, match="'level' depends on a state that is summed out.*inside"):
        Trace_ELBO().loss(marginalize(open_site), guide)
    with pytest.raises(ModelError, match="'level' depends on a state that is summed out"):
        made = AutoNormal(marginalize(open_site))
        Trace_ELBO().loss(marginalize(open_site), made)


@pytest.mark.parametrize("around", ["state", "site"])
def test_a_scale_around_one_of_the_two(around):
    def scaled():
        with poutine.scale(scale=2.0 if around == "state" else 1.0):
            state = pyro.sample("state", chain())
        with poutine.scale(scale=2.0 if around == "site" else 1.0), pyro.plate("step", 4):
            pyro.sample("y", dist.Poisson(RATE[state]), obs=COUNTS)

    with pytest.raises(ModelError, match="must stand under the same scale as its state 'state'.*Sequences.take"):
        marginalize(scaled)()


def test_a_subsampled_step_plate_is_a_scale():
    def subsampled():
        state = pyro.sample("state", chain(2))
        with pyro.plate("step", 4, subsample=torch.tensor([0, 1])) as chosen:
            pyro.sample("y", dist.Poisson(RATE[state]), obs=COUNTS[chosen])

    with pytest.raises(ModelError):
        marginalize(subsampled)()


# ---- posterior -----------------------------------------------------------------------------------------------------


def test_posterior_names_the_parameters_without_a_value():
    def free():
        rate = pyro.sample("rate", dist.Gamma(RATE, 1.0).to_event(1))
        state = pyro.sample("state", chain())
        with pyro.plate("step", 4):
            pyro.sample("y", dist.Poisson(rate[state]), obs=COUNTS)

    with pytest.raises(ModelError, match="no value for rate"):
        posterior(free)()


def test_posterior_of_a_program_without_states():
    with pytest.raises(ModelError, match="must have a state site"):
        posterior(lambda: pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(0.0)))()


# ---- MarkovChain ---------------------------------------------------------------------------------------------------


INITIAL, TRANSITION = LAWS


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((torch.zeros(0).double(), TRANSITION, 3), {}, "initial must be a law over at least one state"),
        ((INITIAL, torch.eye(3).double(), 3), {}, r"transition must end in \(2, 2\)"),
        ((INITIAL, INITIAL, 3), {}, r"transition must end in \(2, 2\)"),
        ((INITIAL, TRANSITION, [2, 0]), {}, "lengths must be at least 1 each, got 0"),
        ((INITIAL, TRANSITION, 3), {"transition_index": torch.zeros(3).long()}, r"must end in \(S, 2, 2\)"),
        (
            (INITIAL, TRANSITION.expand(4, 2, 2), 3),
            {"transition_index": torch.zeros(2).long()},
            r"one entry a step, shape \(3,\)",
        ),
        (
            (INITIAL, TRANSITION.expand(4, 2, 2), 3),
            {"transition_index": torch.tensor([0, 4, 0])},
            r"must lie in 0\.\.3, .*got 4",
        ),
        (
            (INITIAL, TRANSITION.expand(4, 2, 2), 3),
            {"transition_index": torch.tensor([0, -1, 0])},
            "got -1",
        ),
        ((INITIAL, TRANSITION.expand(3, 2, 2), 3), {}, "size 1, the place of the steps.*transition_index"),
        ((INITIAL.expand(3, 2), TRANSITION, 3), {}, "size 1, the place of the steps"),
        ((INITIAL, TRANSITION, [2, 1]), {"weights": torch.ones(3).double()}, "one weight a sequence"),
    ],
)
def test_wrong_shapes_and_indices(arguments, options, message):
    with pytest.raises(ModelError, match=message):
        MarkovChain(*arguments, **options)


@pytest.mark.parametrize(
    "law", [(torch.tensor([0.5, 0.6], dtype=torch.float64), TRANSITION), (INITIAL, 2.0 * TRANSITION)]
)
def test_probabilities_that_do_not_sum_to_one(law):
    with pytest.raises(ValueError, match="to satisfy the constraint"):
        MarkovChain(*law, 3)


def test_log_prob_of_every_path_by_hand():
    """Products along the path, in plain Python, with a matrix of its own for each move and two sequences."""
    generator = torch.Generator().manual_seed(0)
    matrices = torch.rand(3, 2, 2, generator=generator, dtype=torch.float64)
    matrices = matrices / matrices.sum(-1, keepdim=True)
    index, lengths = torch.tensor([2, 0, 1, 1, 0]), [3, 2]
    weights = torch.tensor([1.5, 0.5], dtype=torch.float64)
    law = MarkovChain(INITIAL, matrices, lengths, transition_index=index, weights=weights)
    total = 0.0
    for path in itertools.product((0, 1), repeat=5):
        expected, chance = 0.0, 1.0
        for start, length, weight in ((0, 3, 1.5), (3, 2, 0.5)):
            p = float(INITIAL[path[start]])
            for t in range(start, start + length - 1):
                p *= float(matrices[index[t], path[t], path[t + 1]])
            expected += weight * math.log(p)
            chance *= p
        assert float(law.log_prob(torch.tensor(path))) == pytest.approx(expected, abs=1e-12)
        total += chance
    assert total == pytest.approx(1.0, abs=1e-12)


def test_sampled_paths_follow_the_chain_in_every_batch():
    """Pair frequencies of 4,000 draws a batch within 5 standard errors; a forbidden move never happens."""
    torch.manual_seed(0)
    transition = torch.tensor([[[[0.8, 0.2], [0.3, 0.7]]], [[[0.1, 0.9], [1.0, 0.0]]]], dtype=torch.float64)
    law = MarkovChain(INITIAL, transition, [2, 1])
    assert law.batch_shape == (2, 1) and law.shape() == (2, 3)
    draws = law.sample(torch.Size([4000]))
    assert draws.shape == (4000, 2, 3)
    for batch, first, then in itertools.product((0, 1), (0, 1), (0, 1)):
        chance = 0.5 * float(transition[batch, 0, first, then])
        share = float(((draws[:, batch, 0] == first) & (draws[:, batch, 1] == then)).double().mean())
        assert abs(share - chance) <= 5 * (chance * (1 - chance) / 4000) ** 0.5
    expected = torch.stack([law.log_prob(draws[:, :, :])[n] for n in range(3)])
    single = [MarkovChain(INITIAL, transition[b, 0], [2, 1]).log_prob(draws[:3, b]) for b in (0, 1)]
    torch.testing.assert_close(expected.squeeze(-1), torch.stack(single, 1))


# ---- a state's steps, however they are reached ----------------------------------------------------------------------

LEVEL = torch.tensor([-1.0, 2.0], dtype=torch.float64)
MIXING = {
    "rolled afterwards": lambda s: torch.roll(LEVEL[s], 1, -1),
    "padded": lambda s: LEVEL[torch.nn.functional.pad(s, (1, 0))[..., :-1]],
    "gathered": lambda s: LEVEL[s] + s.gather(-1, torch.zeros_like(s)),
    "summed": lambda s: LEVEL[s] + 0.1 * s.sum(-1, keepdim=True),
    "averaged": lambda s: LEVEL[s] + s.double().mean(-1, keepdim=True),
    "any": lambda s: LEVEL[s] + s.bool().any(-1, keepdim=True),
    "largest": lambda s: LEVEL[s] + s.max(-1, keepdim=True).values,
    "copied and indexed": lambda s: LEVEL[s] + s.clone()[..., 0:1],
    "counted": lambda s: LEVEL[s] + 0.1 * s.shape[-1],
}
SERIES = torch.tensor([0.1, 1.9, -0.8, 2.2, 0.3, 1.1, -1.0, 2.5], dtype=torch.float64)


def levels(of_state):
    state = pyro.sample("state", chain(len(SERIES)))
    with pyro.plate("step", len(SERIES)):
        pyro.sample("y", dist.Normal(of_state(state), 1.0), obs=SERIES)


@pytest.mark.parametrize("max_plate_nesting", [None, 1])
@pytest.mark.parametrize("how", MIXING)
def test_a_site_that_mixes_the_steps_of_its_state_raises_however_it_does(how, max_plate_nesting):
    torch.manual_seed(3)
    model = marginalize(lambda: levels(MIXING[how]), max_plate_nesting=max_plate_nesting)
    with pytest.raises(ModelError, match="must depend on its own step's state only|must not be indexed by step"):
        poutine.trace(model).get_trace()


def test_a_factor_of_the_whole_path_raises():
    def whole():
        state = pyro.sample("state", chain(len(SERIES)))
        with pyro.plate("step", len(SERIES)):
            pyro.sample("y", dist.Normal(LEVEL[state], 1.0), obs=SERIES)
        pyro.factor("f", -state.double().mean())

    torch.manual_seed(3)
    with pytest.raises(ModelError, match="its own step's state only"):
        poutine.trace(marginalize(whole)).get_trace()


def test_a_program_with_noise_of_its_own_is_not_refused():
    """Dropout, say: two readings of one path differ, so that the check can tell nothing."""
    model = marginalize(lambda: levels(lambda s: LEVEL[s] + torch.rand(len(SERIES), dtype=torch.float64)))
    assert math.isfinite(poutine.trace(model).get_trace().log_prob_sum())
