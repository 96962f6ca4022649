"""Every figure draws on the Axes it is given, returns it, and shows the numbers it was given."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

from probseq import plots
from probseq.recurrent import Descent, LossPlane, LossSlice, fit_decay, growth

GENERATOR = np.random.default_rng(0)
DAYS = pd.date_range("2020-01-01", periods=60, name="day")
VALUES = np.where(GENERATOR.random(60) < 0.5, 0.0, GENERATOR.gamma(2.0, 3.0, 60))
STATE = (VALUES > 0).astype(int)
CHAIN = np.array([[0.8, 0.2], [0.3, 0.7]])
MONTHS = plots.month_sums(pd.date_range("2018-01-01", "2019-12-31"), GENERATOR.random((730, 1)))
RUNS = plots.month_sums(pd.date_range("2018-01-01", "2019-12-31"), GENERATOR.random((730, 30)))
FUTURE = pd.DataFrame(
    {"mean": [1.0, 2.0], "q0.05": [0.0, 0.5], "q0.25": [0.5, 1.0], "q0.5": [1, 2], "q0.75": [2, 3], "q0.95": [3, 4]},
    index=pd.date_range("2020-03-01", periods=2),
)
TABLE = pd.DataFrame({"states": [1, 2, 3], "aic": [30.0, 20.0, 19.0], "bic": [31.0, 22.0, 25.0]})
ERRORS = pd.DataFrame(
    {"estimate": [1.0, 2.0], "lower": [0.5, np.nan], "upper": [np.inf, np.nan]}, index=["rate[0]", "rate[1]"]
)

Z = np.where(np.arange(60) == 9, np.nan, GENERATOR.normal(size=60))
RESIDUALS = pd.DataFrame({f"normal{kind}": Z for kind in ("_lower", "_upper", "_mid", "")}, index=DAYS)
SEGMENTS = RESIDUALS.assign(normal_lower=np.where(VALUES == 0, -np.inf, Z), normal_upper=Z + 0.4)
CHECKED = pd.DataFrame(
    {
        "observed": [1.0, 5.0, -30.0, 2.0, np.nan],
        "q0.05": [0.0, 1.0, 1.0, 2.0, 0.0],
        "q0.5": [1.0, 2.0, 2.0, 2.0, 0.0],
        "q0.95": [2.0, 4.0, 4.0, 2.0, 0.0],
        "p_value": [0.5, 0.01, 1.0, 0.5, np.nan],
        "inside": [True, False, False, True, False],
    },
    index=["mean", "largest", "ACF of y, lag 1", "constant", "unknown"],
)
PHRASES = pd.DataFrame([[0.0, 1.0], [1.0, -1.0], [1.01, -1.01]], index=["one", "another one", "much the same"])

NORMS = {"a": 0.5 ** np.arange(1, 9), "b": np.append(0.9 ** np.arange(1, 8), 0.0)}
LOGS = -np.cumsum(np.abs(GENERATOR.normal(1.0, 0.3, (9, 6))), axis=1)
PLANE = LossPlane(np.arange(3.0), np.arange(4.0), GENERATOR.random((3, 4)), GENERATOR.random((3, 4)))
DESCENT = Descent(np.array([[0.5, 0.5], [1.0, 9.0]]), np.array([2.0, 1.0]), np.array([8.0, 0.1]))


def normal(x: np.ndarray) -> np.ndarray:
    return np.stack([stats.norm.cdf(x, 0), stats.norm.cdf(x, 5)], axis=1)


FIGURES: dict[str, Callable[[Axes], Axes]] = {
    "bars": lambda axes: plots.decoded_series(axes, DAYS, VALUES, STATE, states=2, bars=True, label="rain (mm)"),
    "line": lambda axes: plots.decoded_series(
        axes, np.arange(60), np.where(np.arange(60) == 7, np.nan, VALUES), STATE, states=2, labels=["a", "b"]
    ),
    "one step": lambda axes: plots.decoded_series(axes, DAYS[:1], VALUES[:1], STATE[:1], states=2),
    "periods": lambda axes: plots.decoded_series(
        axes, pd.period_range("2000", periods=60, freq="Q"), VALUES, STATE, states=2
    ),
    "hours of a zone": lambda axes: plots.decoded_series(
        axes, pd.date_range("2020-03-28", periods=60, freq="h", tz="Europe/Paris"), VALUES, STATE, states=2
    ),
    "probabilities": lambda axes: plots.state_probabilities(axes, DAYS, np.eye(2)[STATE]),
    "transitions": lambda axes: plots.transition_diagram(axes, CHAIN, labels=["dry", "wet"]),
    "one state": lambda axes: plots.transition_diagram(axes, np.ones((1, 1))),
    "nine states": lambda axes: plots.transition_diagram(axes, np.full((9, 9), 1 / 9)),
    "spells": lambda axes: plots.spell_lengths(axes, np.array([1, 1, 2, 5]), [np.array([1, 2, 3]), np.array([1, 4])]),
    "no spells": lambda axes: plots.spell_lengths(axes, np.array([], dtype=int), [np.array([1, 2])]),
    "months": lambda axes: plots.monthly_totals(axes, MONTHS, RUNS, label="total (mm)"),
    "densities": lambda axes: plots.emission_densities(
        axes, GENERATOR.normal(2.5, 3, 200), normal, np.array([0.5, 0.5]), label="x"
    ),
    "one value": lambda axes: plots.emission_densities(axes, np.array([3.0]), normal, np.array([0.5, 0.5])),
    "symbols": lambda axes: plots.symbol_shares(axes, np.array([0.5, 0.5]), CHAIN, ["A", "B"]),
    "fan": lambda axes: plots.forecast_fan(axes, DAYS, VALUES, FUTURE.index, FUTURE, bars=True),
    "fan of steps": lambda axes: plots.forecast_fan(
        axes, pd.RangeIndex(60), VALUES, pd.Index([60, 61]), FUTURE.set_axis([60, 61])
    ),
    "chance": lambda axes: plots.chance_ahead(axes, np.array([0.2, 0.4]), long_run=0.4),
    "selection": lambda axes: plots.state_selection(axes, TABLE),
    "trace": lambda axes: plots.objective_trace(axes, np.array([-10.0, -4.0, -3.0, -3.0])),
    "flat trace": lambda axes: plots.objective_trace(axes, np.array([-3.0])),
    "intervals": lambda axes: plots.parameter_intervals(axes, {"Hessian": ERRORS, "bootstrap": ERRORS.iloc[:1]}),
    "intervals on a logarithmic axis": lambda axes: plots.parameter_intervals(
        axes, {"Hessian": ERRORS}, names=["rate[1]", "rate[0]"], logarithmic=True
    ),
    "profile": lambda axes: plots.profile_curve(
        axes,
        np.array([0.0, 1.0, 2.0, 3.0]),
        np.array([2.0, 0.5, 0.0, 0.5]),
        name="rate[0]",
        estimate=2.0,
        interval=(0.2, np.inf),
        threshold=1.92,
        error=1.0,
    ),
    "residuals": lambda axes: plots.residual_series(axes, DAYS, RESIDUALS),
    "segments": lambda axes: plots.residual_series(axes, np.arange(60), SEGMENTS),
    "residual quantiles": lambda axes: plots.residual_quantiles(axes, RESIDUALS),
    "residual histogram": lambda axes: plots.residual_histogram(axes, RESIDUALS),
    "residual autocorrelation": lambda axes: plots.residual_autocorrelation(axes, RESIDUALS, lengths=[40, 20]),
    "squared residuals": lambda axes: plots.residual_autocorrelation(axes, RESIDUALS, squared=True),
    "checks": lambda axes: plots.predictive_check(axes, CHECKED),
    "phrases": lambda axes: plots.phrase_plane(
        axes, PHRASES, [0.6, 0.3], groups=["a", "b", "a"], marks=["active", "active", "passive"]
    ),
    "one kind of phrase": lambda axes: plots.phrase_plane(axes, PHRASES, [0.6, 0.3]),
    "uncertainty": lambda axes: plots.path_uncertainty(axes, DAYS, np.full(60, 0.3), np.full(60, 0.1), states=2),
    "certainty": lambda axes: plots.path_uncertainty(axes, DAYS, np.zeros(60), np.zeros(60), states=1),
    "gradients": lambda axes: plots.gradient_spans(axes, NORMS, fits={"a": fit_decay(NORMS["a"])}),
    "exponents": lambda axes: plots.exponent_agreement(axes, np.array([-1.0, 0.1]), np.array([-0.9, 0.1]), names="ab"),
    "singular values": lambda axes: plots.singular_spectrum(axes, LOGS),
    "products": lambda axes: plots.product_growth(axes, {"a": growth(torch.from_numpy(LOGS))}, {"a": 1.0}),
    "paths of products": lambda axes: plots.product_paths(axes, LOGS, -1.0),
    "slice": lambda axes: plots.loss_along(axes, LossSlice(NORMS["a"], NORMS["a"], NORMS["b"])),
    "contours": lambda axes: plots.loss_contours(axes, PLANE, descents={"plain": DESCENT}),
    "descents": lambda axes: plots.descent_losses(axes, {"plain": DESCENT}),
    "restarts": lambda axes: plots.restart_outcomes(axes, [-3.0, float("nan"), -7.0]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_draws_on_the_axes_given(name: str, tmp_path) -> None:
    made = Figure()
    left, right = made.subplots(1, 2)
    assert FIGURES[name](left) is left
    assert left.has_data() or left.patches or left.texts
    assert not right.has_data()
    made.savefig(tmp_path / "figure.png")  # warnings are errors: no missing glyph, no empty limits


def test_a_step_without_measurement_has_no_mark() -> None:
    axes = FIGURES["line"](plots.figure()[1])
    points = np.asarray(axes.collections[0].get_offsets())
    assert len(points) == 59 and 7 not in points[:, 0]


def test_colours_are_those_of_the_states() -> None:
    from matplotlib.colors import to_hex

    axes = FIGURES["bars"](plots.figure()[1])
    colours = {to_hex(colour).upper() for colour in axes.collections[0].get_colors()}
    assert colours == {plots.state_colours(2)[1]}  # only wet days have a bar


@pytest.mark.parametrize("states", range(1, 13))
def test_states_have_colours_of_their_own(states: int) -> None:
    colours = plots.state_colours(states)
    assert len(colours) == states == len({colour.lower() for colour in colours})


def test_arrows_carry_the_chances() -> None:
    axes = FIGURES["transitions"](plots.figure()[1])
    said = [text.get_text() for text in axes.texts]
    assert {"20%", "30%", "stays 80%", "stays 70%", "dry", "wet"} <= set(said)


def test_a_rare_move_has_no_arrow() -> None:
    chain = np.array([[0.5, 0.499, 0.001], [0.5, 0.5, 0.0], [0.1, 0.1, 0.8]])
    said = [text.get_text() for text in plots.transition_diagram(plots.figure()[1], chain).texts]
    assert "0.1%" not in said and said.count("10%") == 2


def test_the_histogram_and_the_states_share_a_scale() -> None:
    """Shares of all states add up to the mass of the bins, which is nearly one."""
    axes = FIGURES["densities"](plots.figure()[1])
    by_state = [line.get_ydata() for line in axes.lines[:2]]
    total = axes.lines[2].get_ydata()
    assert np.sum(by_state, axis=0) == pytest.approx(np.asarray(total))
    assert 0.9 < float(np.sum(total)) <= 1


def test_a_skewed_law_integrates_to_its_mass_on_a_logarithmic_axis() -> None:
    """Heights are shares per doubling, so heights times log2 widths add up to the chance of a wet day."""
    rain = np.where(GENERATOR.random(4000) < 0.6, 0.0, np.maximum(GENERATOR.gamma(0.9, 8.0, 4000).round(1), 0.1))
    axes = plots.emission_densities(
        plots.figure()[1],
        rain,
        lambda x: (0.4 * stats.gamma.cdf(x, 0.9, scale=8.0) + 0.6 * (x >= 0))[:, None],
        np.array([1.0]),
        extra_zero=True,
    )
    assert axes.get_xscale() == "log"
    from probseq.plots.emissions import bins_for

    edges, _ = bins_for(rain[rain > 0], counts=False)
    modelled = np.asarray(axes.lines[0].get_ydata()) * np.log2(edges[1:] / edges[:-1])
    assert modelled.sum() == pytest.approx(0.4, abs=0.01)  # what lies beyond the bins
    assert "60.0% in the model" in axes.get_title(loc="left")


def test_exponents_stand_where_theory_and_fit_say() -> None:
    axes = FIGURES["exponents"](plots.figure()[1])
    assert np.asarray(axes.lines[1].get_xydata()).tolist() == [[-1.0, -0.9], [0.1, 0.1]]
    assert [text.get_text() for text in axes.texts] == ["a", "b"]


def test_singular_values_below_rounding_are_left_out() -> None:
    logs = np.array([[0.0, -1.0], [0.0, -40.0]])
    axes = plots.singular_spectrum(plots.figure()[1], logs)
    assert np.isnan(np.asarray(axes.lines[0].get_ydata())).tolist() == [False, True]


def test_the_fan_is_nested_and_starts_where_the_data_end() -> None:
    axes = FIGURES["fan"](plots.figure()[1])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [  # type: ignore[union-attr]
        "90% interval",
        "50% interval",
        "median",
        "mean",
        "observed",
    ]


def test_intervals_are_where_the_table_says() -> None:
    axes = FIGURES["intervals"](plots.figure()[1])
    drawn = [segment[:, 0].tolist() for segment in axes.collections[0].get_segments()]  # type: ignore[attr-defined]
    assert drawn == [[0.5, 1.0]]  # an end at infinity stops at the estimate, with an arrow
    assert [label.get_text() for label in axes.get_yticklabels()] == ["rate[0]", "rate[1]"]


def test_a_quadratic_profile_is_its_own_parabola() -> None:
    axes = FIGURES["profile"](plots.figure()[1])
    by_name = {line.get_label(): np.asarray(line.get_ydata()) for line in axes.lines}
    np.testing.assert_allclose(by_name["profile"], by_name["by the Hessian"], atol=1e-9)


def test_texts_of_phrases_lie_on_no_other_and_on_no_point() -> None:
    """Twelve phrases in four heaps, by the boxes that matplotlib draws; two pixels, as letters differ in width."""
    places = np.repeat([[0.0, 0.0], [1, 0], [0, 1], [1, 1]], 3, axis=0) + 0.01 * GENERATOR.normal(size=(12, 2))
    made, axes = plots.figure(8, 6)
    scores = pd.DataFrame(places, index=[f"phrase number {i}" for i in range(12)])
    plots.phrase_plane(axes, scores, [0.5, 0.5])
    made.draw_without_rendering()
    boxes = [Text.get_window_extent(text).padded(-2) for text in axes.texts]  # without the lines to the points
    assert len(boxes) == 12
    for i, box in enumerate(boxes):
        assert box.count_overlaps(boxes[:i] + boxes[i + 1 :]) == 0
        assert not any(box.contains(*place) for place in axes.transData.transform(places))
