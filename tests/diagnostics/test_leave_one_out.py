"""PSIS-LOO of steps and sequences against integrals over a table of the one unknown number."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from arviz_stats.utils import ELPDData

from probseq import HMM, DataError, ModelError, Sequences, em, families
from probseq.diagnostics import compare, leave_sequence_out, leave_sequence_out_exact, loo
from tests.diagnostics.one_rate import FEW, counting, fit_hmm, fit_program, lists, log_evidence, point

NAN = math.nan
SERIES = Sequences.from_arrays([[0, 2, 9, 12, NAN, 8, 1, 0, 1, 3], [7, 11, 10, 2, 1]])
OUTLIER = Sequences.from_arrays([[0, 2, 9, 12, NAN, 8, 1, 30, 1, 3], [7, 11, 10, 2, 1]])


def left_out(series: Sequences) -> dict[int, float]:
    """log p(y_t | y_-t) of every observed step, the rate integrated out."""
    sequences, found, flat = lists(series), {}, 0
    for values in sequences:
        for t, y in enumerate(values):
            if not math.isnan(y):
                values[t] = NAN
                rest = log_evidence(sequences)
                values[t] = y
                found[flat] = log_evidence(sequences) - rest
            flat += 1
    return found


def test_steps_left_out() -> None:
    """An average over 2000 quantiles, smoothed in its tail: an error of a few thousandths of a nat a step."""
    found = loo(fit_hmm(SERIES))
    expected = left_out(SERIES)
    assert found.elpd_i.step.values.tolist() == list(expected) and found.n_data_points == 14
    np.testing.assert_allclose(found.elpd_i.values, list(expected.values()), atol=0.01)
    assert found.elpd == pytest.approx(sum(expected.values()), abs=0.02)
    assert found.pareto_k.max() < 0.5 and not found.warning
    assert 0.3 < found.p < 1.0  # one number was learned, of which some steps say nothing


def test_a_program_is_a_model_like_any_other() -> None:
    program, hmm = loo(fit_program(SERIES)), loo(fit_hmm(SERIES, draws=FEW))
    np.testing.assert_allclose(program.elpd_i.values, hmm.elpd_i.values, rtol=1e-9)
    np.testing.assert_allclose(program.pareto_k.values, hmm.pareto_k.values, rtol=1e-6, atol=1e-9)


def test_a_step_with_too_much_to_say_is_named_and_left_out_in_truth() -> None:
    fit, expected = fit_hmm(OUTLIER), left_out(OUTLIER)
    with pytest.warns(UserWarning, match=r"Pareto k is above 0.70 at 1 of 14 steps \(7; .*pass fit_function"):
        smoothed = loo(fit)
    assert smoothed.pareto_k.sel(step=7) > 0.7 and smoothed.warning
    fit_function, seen = counting(fit_hmm)
    found = loo(fit, fit_function=fit_function)
    assert [int(series.step_observed.sum()) for series in seen] == [13] and not seen[0].step_observed[7]
    np.testing.assert_allclose(found.elpd_i.values, list(expected.values()), atol=0.05)  # quantiles have a short tail
    terms = np.array(list(expected.values()))
    assert found.elpd == pytest.approx(terms.sum(), abs=0.05)
    assert found.se == pytest.approx(math.sqrt(14 * terms.var()), abs=0.05)
    assert found.elpd + found.p == pytest.approx(smoothed.elpd + smoothed.p)  # the density of what was fitted
    assert not found.warning and float(found.pareto_k.sel(step=7)) == 0.0


def test_a_label_goes_with_its_step() -> None:
    labels = torch.full((15,), -1)
    labels[1] = 1
    series = replace(SERIES, labels=labels)
    fit = replace(fit_hmm(SERIES), fingerprint=series.fingerprint(), series=series)
    terms = loo(fit).elpd_i
    without = loo(fit_hmm(SERIES)).elpd_i
    assert terms.sel(step=1) < without.sel(step=1) - 0.1  # that the state is 1 is foretold too
    assert terms.sel(step=14) == pytest.approx(float(without.sel(step=14)))  # another sequence


def left_out_sequences(series: Sequences) -> list[float]:
    sequences = lists(series)
    whole = log_evidence(sequences)
    return [whole - log_evidence(sequences[:n] + sequences[n + 1 :]) for n in range(len(sequences))]


def test_sequences_left_out() -> None:
    series = Sequences.from_arrays([[0, 2, 9, 1], [7, NAN, 10], [1, 0], [2, 8, 12, 6, 1], [0, 9]])
    expected = left_out_sequences(series)
    found = leave_sequence_out(fit_hmm(series))
    np.testing.assert_allclose(found.elpd_i.values, expected, atol=0.01)
    assert found.elpd_i.sequence.values.tolist() == [0, 1, 2, 3, 4]
    fit_function, seen = counting(fit_hmm)
    exact = leave_sequence_out_exact(fit_function, series)
    np.testing.assert_allclose(exact.table["elpd"], expected, atol=2e-3)  # of 2000 quantiles
    assert exact.elpd == pytest.approx(sum(expected), abs=5e-3) and exact.fits == 5 and not exact.interrupted
    assert exact.se == pytest.approx(math.sqrt(5) * np.std(expected), abs=5e-3)
    assert [part.count for part in seen] == [4] * 5
    assert exact.table["sequence"].tolist() == [0, 1, 2, 3, 4] == exact.table["id"].tolist()


def test_an_interrupt_keeps_the_sequences_so_far() -> None:
    series = Sequences.from_arrays([[0, 2, 9, 1], [7, NAN, 10], [1, 0]])
    left = iter([True, False])

    def fit_function(part: Sequences):
        fit = fit_hmm(part)
        return fit if next(left) else replace(fit, stop_reason="interrupted")

    found = leave_sequence_out_exact(fit_function, series)
    assert found.interrupted and len(found.table) == 1
    with pytest.raises(KeyboardInterrupt):
        leave_sequence_out_exact(lambda part: replace(fit_hmm(part), stop_reason="interrupted"), series)


def test_compare_ranks_and_counts_what_is_unreliable() -> None:
    fit = fit_hmm(OUTLIER)
    rates = fit.draws["rate"] * torch.tensor([1.0, 0.5], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = compare({"worse": replace(fit, draws=fit.draws | {"rate": rates}), "better": fit})
        single = loo(fit)
    assert table.index.tolist() == ["better", "worse"] and table["rank"].tolist() == [0, 1]
    assert table["elpd"]["better"] == single.elpd and table["se"]["better"] == single.se
    assert table["pareto_k_bad"]["better"] == 1 and table["pareto_k_max"]["better"] == float(single.pareto_k.max())
    assert table["elpd_diff"]["worse"] == pytest.approx(table["elpd"]["better"] - table["elpd"]["worse"])


def test_draws_that_are_all_alike_have_even_weights() -> None:
    fit = fit_hmm(SERIES)
    alike = replace(fit, draws={name: value[:1].expand_as(value) for name, value in fit.draws.items()})
    found = loo(alike)
    terms = alike.model.posterior({name: value[0] for name, value in alike.draws.items()}, SERIES)
    np.testing.assert_allclose(found.elpd_i, terms.leave_one_out_log_prob[SERIES.step_observed], rtol=1e-12)
    assert (found.pareto_k == 0.0).all() and found.p == pytest.approx(0.0, abs=1e-9)


def test_what_cannot_be_left_out_is_refused() -> None:
    fit = fit_hmm(SERIES)
    with pytest.raises(ModelError, match="^loo must have draws of the parameters' posterior, got the point of table"):
        loo(point(SERIES))
    with pytest.raises(ModelError, match="^leave_sequence_out must have draws"):
        leave_sequence_out(point(SERIES))
    with pytest.raises(DataError, match="^loo must look at the data that was fitted"):
        loo(fit, OUTLIER)
    weighted = replace(SERIES, weights=torch.tensor([1.0, 2.0]))
    with pytest.raises(ModelError, match="count once each, got weights"):
        loo(replace(fit, fingerprint=weighted.fingerprint()), weighted)
    single = SERIES.take([0])
    with pytest.raises(ModelError, match="^leave_sequence_out must have at least two sequences, got 1"):
        leave_sequence_out(fit_hmm(single))
    with pytest.raises(ModelError, match="^leave_sequence_out_exact must have at least two sequences"):
        leave_sequence_out_exact(fit_hmm, single)
    with pytest.raises(ModelError, match="^compare must be given at least two fits, got 1"):
        compare({"one": fit})
    with pytest.raises(ModelError, match="same steps of the same data, got 14 steps of 'a' and 9 of 'b'"):
        compare({"a": fit, "b": fit_hmm(single)})


def test_autoregressive_emissions_are_refused() -> None:
    series = Sequences.from_arrays([np.random.default_rng(0).normal(size=60)])
    fit = em(HMM(2, families.Autoregression(1)), series, restarts=1, priors=True)
    twice = replace(fit, draws={name: value.expand(2, *value.shape[1:]) for name, value in fit.draws.items()})
    with pytest.raises(ModelError, match="depend on the state alone, got .* with 1 lags"):
        loo(twice)


def test_a_result_is_arviz_own() -> None:
    assert isinstance(loo(fit_hmm(SERIES)), ELPDData)
