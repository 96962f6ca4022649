"""How a recurrent model ends its sequences, and what it draws: against every string there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from probseq import LengthLaw, RecurrentModel, Sequences, families
from probseq.models.free_running import run_along
from probseq.models.stopping import TOLD
from tests.models.recurrent_models import model_of, ragged, symbol_model
from tests.models.recurrent_oracle import BY_HAND, log_share, strings

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("symbols", [2, 3])
@torch.no_grad()
def test_an_end_symbol_gives_a_proper_law(symbols: int) -> None:
    model, longest = symbol_model(symbols, "end"), 6
    every = strings(symbols, longest)
    short = model.log_prob(every)
    full = every.lengths == longest  # prefixes of what is longer, and whole strings
    by_step = model.step_log_prob(examples := model.encode(every), model.hidden(examples)[0]).detach()
    prefix = short - examples.by_sequence(torch.where(examples.steps["end"], by_step, 0.0))
    assert log_share(short[~full]) + log_share(prefix[full]) == pytest.approx(1.0, abs=1e-12)
    assert log_share(short) < 1.0 - 1e-6  # some are longer
    assert log_share(short[every.lengths == 1]) == pytest.approx(
        float(
            (
                model.stop(model.hidden(model.encode(strings(symbols, 1)))[0])[1::2, 0].sigmoid()  # type: ignore[misc]
                * model.predictive_parameters(strings(symbols, 1))["probabilities"][0]
            ).sum()
        ),
        rel=1e-12,
    )


@pytest.mark.parametrize(
    "law",
    [
        LengthLaw(families.Geometric()),
        LengthLaw(families.NegativeBinomial(), TOLD),
        LengthLaw(families.Mixture(families.Poisson(), 2), ()),
        LengthLaw(families.Categorical(5), ("total",)),
    ],
    ids=lambda law: law.family.name,
)
def test_a_length_law_gives_a_proper_law(law: LengthLaw) -> None:
    law.prepare(torch.tensor([1, 2, 2, 3, 5, 5, 4]))
    model, every = symbol_model(2, law), strings(2, 5)
    beyond = float(
        law.family.survival(torch.tensor([4.0]), {n: v.unsqueeze(0) for n, v in law.parameters_of_law.items()})
    )
    assert log_share(model.log_prob(every)) + beyond == pytest.approx(1.0, abs=1e-12)
    lengths = torch.arange(1, 6)
    given = [log_share(model.log_prob(every)[every.lengths == T]) for T in range(1, 6)]
    assert given == pytest.approx(law.log_prob(lengths).exp().tolist(), abs=1e-12)


def test_the_law_of_lengths_is_fitted_to_the_data() -> None:
    series = Sequences.from_arrays([[0, 1], [1], [0, 1, 1], [1, 0]], categories=["a", "b"])
    model = symbol_model(2, LengthLaw(families.Geometric()))
    model.prepare(series)
    # the mean of T - 1 is 1, so that the chance of an end is 1/2 at each step
    assert model.length_law is not None
    assert model.length_law.log_prob(torch.tensor([1, 2, 3])).exp().tolist() == pytest.approx([0.5, 0.25, 0.125])
    told = model.length_law.told(torch.tensor([0, 2]), torch.tensor([3, 3]))
    assert told.exp().flatten().tolist() == pytest.approx([3, 1])


def chi_square(drawn: Sequences, every: Sequences, logs: Tensor) -> float:
    """The p-value of drawn strings against probabilities of all short ones, the longer ones together."""
    from scipy.stats import chisquare

    def names(series: Sequences) -> list[str]:
        return ["".join(map(str, part.long().tolist())) for part in series.values.split(series.lengths.tolist())]

    known = names(every)
    counts = dict.fromkeys([*known, "longer"], 0)
    for name in names(drawn):
        counts[name if name in counts else "longer"] += 1
    expected = np.append(logs.exp().numpy(), max(0.0, 1.0 - log_share(logs))) * drawn.count
    observed = np.array(list(counts.values()), dtype=float)
    rare = expected < 5
    assert observed[rare].sum() == 0 or expected[rare].sum() > 1e-6
    cells = [np.append(one[~rare], one[rare].sum()) for one in (observed, expected)]
    cells = cells if expected[rare].sum() > 1e-6 else [one[:-1] for one in cells]
    return float(chisquare(cells[0], cells[1] * (cells[0].sum() / cells[1].sum())).pvalue)  # equal to rounding


@pytest.mark.parametrize(
    "family", [families.Geometric(), families.Categorical(4), families.Mixture(families.Poisson(), 2)]
)
def test_the_law_of_lengths_counts_sequences_as_often_as_they_count(family: families.Family) -> None:
    """A weight of two is the sequence twice, a weight of zero is no sequence."""
    sizes, often = [1, 2, 4, 3], [2, 1, 3, 0]
    series = replace(
        Sequences.from_arrays([[0.0, 1.0, 0.5, 2.0][:n] for n in sizes]), weights=torch.tensor(often) * 1.0
    )
    model = RecurrentModel.for_series(series, "gaussian", "gru", 2, stopping=LengthLaw(family))
    model.prepare(series)
    repeated = LengthLaw(family)
    repeated.prepare(torch.tensor(sizes).repeat_interleave(torch.tensor(often)))
    assert model.length_law is not None
    logs = [law.log_prob(torch.arange(1, 5)) for law in (model.length_law, repeated)]
    if not isinstance(family, families.Mixture):
        assert logs[0].tolist() == pytest.approx(logs[1].tolist(), rel=1e-10)
    totals = [float((one[torch.tensor(sizes) - 1] * torch.tensor(often)).sum()) for one in logs]
    assert totals[0] > totals[1] - 1e-6  # a mixture's maximum is flat, and climbed by steps


@pytest.mark.parametrize("how", ["end", "length", "vector"])
def test_what_is_drawn_has_the_law(how: str) -> None:
    law = LengthLaw(families.Geometric(), TOLD)
    law.prepare(torch.tensor([1, 2, 3]))
    model = symbol_model(2, law if how == "length" else "end")
    every = strings(2, 5)
    drawn = model.simulate(count=4000, seed=1)
    assert chi_square(drawn, every, model.log_prob(every)) > 0.001  # one seeded draw
    assert torch.equal(drawn.values, model.simulate(count=4000, seed=1).values)


def test_what_is_drawn_along_lengths_has_the_law() -> None:
    model = symbol_model(2, None)
    every = strings(2, 3)
    every = every.take(every.lengths.numpy() == 3)
    drawn = model.simulate([3] * 3000, seed=2)
    assert chi_square(drawn, every, model.log_prob(every)) > 0.001
    begun = Sequences.from_arrays([[1, 0]] * 3000, categories=["a", "b"])  # given the first two symbols, the third
    third = model.simulate([1] * 3000, seed=3, past=begun).values.double().mean()
    one = Sequences.from_arrays([[1, 0, 1]], categories=["a", "b"])
    chance = float(model.predictive_parameters(one)["probabilities"][2, 1])
    assert abs(float(third) - chance) < 4 * (chance * (1 - chance) / 3000) ** 0.5


@pytest.mark.parametrize("feedback", ["observed", "predicted", None])
@pytest.mark.parametrize("name", ["gaussian", "categorical", "vectors"])
def test_a_simulation_knows_its_own_score(name: str, feedback: str | None) -> None:
    case = BY_HAND[name]
    series = replace(ragged(case), observed=None)
    model = model_of(case, feedback=feedback, covariates=("x", "z"))
    model.prepare(series)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = run_along(model, series)
    again = replace(series, values=drawn.values)
    assert model.log_prob(again).tolist() == pytest.approx(drawn.log_prob.tolist(), rel=1e-11)
