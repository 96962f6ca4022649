"""The figures of a report: which ones make sense for a fit, each with a caption that says what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from probseq import plots
from probseq.families import Categorical
from probseq.plots.transitions import drawn_moves
from probseq.report import words as say
from probseq.report.chapter import Chapter

MOST_SHOWN = 4
"""Sequences, or years, that get a panel of their own."""
PANEL_STEPS = 1500
"""Steps that one panel can show."""


@dataclass(frozen=True, eq=False)
class Plate:
    """A figure with what is to be said of it.

    Args:
        name: for a file name.
        title: above the figure.
        caption: below it; whole sentences.
        figure: the figure.
    """

    name: str
    title: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Panels:
    """What the panels of a figure over time show.

    Args:
        parts: (heading, steps) of each panel.
        left_out: a sentence on what is not shown, with a space before it, or nothing.
        yearly: whether each panel is a calendar year.
    """

    parts: list[tuple[str, slice]]
    left_out: str = ""
    yearly: bool = False


def plates(chapter: Chapter) -> Iterator[Plate]:
    """Every figure that makes sense for this fit, in reading order."""
    from probseq.report.simulated_plates import spells_plate, totals_plate

    if chapter.candidates is not None and len(chapter.candidates.dropna(subset=["bic"])) > 1:
        yield selection_plate(chapter)
    yield series_plate(chapter) if chapter.series.categories is None else symbols_plate(chapter)
    if chapter.states > 1:
        yield probabilities_plate(chapter)
        yield transitions_plate(chapter)
    if chapter.univariate and not chapter.family.context:  # beside a context a state has no one density
        yield emissions_plate(chapter)
    if chapter.univariate and say.has_extra_zero(chapter.family):
        yield spells_plate(chapter)
    if chapter.has_months:
        yield totals_plate(chapter)
    if chapter.univariate and chapter.series.categories is None:
        yield forecast_plate(chapter)
    yield search_plate(chapter)


def selection_plate(chapter: Chapter) -> Plate:
    """AIC and BIC against the number of states."""
    assert chapter.candidates is not None
    made, axes = plots.figure(5.6, 3.0)
    table = chapter.candidates.dropna(subset=["bic"])
    plots.state_selection(axes, table, chosen=chapter.states)
    by_aic = int(table["states"].iloc[int(np.argmin(table["aic"]))])
    caption = "Both criteria weigh fit against the number of parameters; the ring marks the model chosen by BIC."
    if by_aic != chapter.states:
        caption += f" AIC, which asks less of a parameter, would have taken {say.plural(by_aic, 'state')}."
    if chapter.fit.with_priors:
        caption += (
            " The fit has priors, so the log-likelihood is that of the posterior mode, a little below its maximum."
        )
    return Plate("selection", "How many states", caption, made)


def panels(chapter: Chapter) -> Panels:
    """Years of a daily series, the first of several sequences, or the end of a long one."""
    series, step = chapter.series, chapter.words.step
    if series.count > 1:
        spans = [chapter.span(n) for n in range(min(series.count, MOST_SHOWN))]
        cut = [slice(max(span.start, span.stop - PANEL_STEPS), span.stop) for span in spans]
        said = f" The first {len(spans)} of {series.count:,} sequences are shown." if len(spans) < series.count else ""
        if cut != spans:
            said += f" Of each, the last {PANEL_STEPS:,} {step}s at most."
        return Panels([(str(name), steps) for name, steps in zip(series.ids, cut, strict=False)], said)
    total, time = series.total_steps, series.time
    if isinstance(time, pd.DatetimeIndex) and step == "day" and total > 400:
        every = sorted(set(time.year))
        years = every[-MOST_SHOWN:]
        bounds = [np.flatnonzero(time.year == year)[[0, -1]] for year in years]
        parts = [(str(year), slice(int(a), int(b) + 1)) for year, (a, b) in zip(years, bounds, strict=True)]
        said = f" The last {len(years)} of {len(every)} years are shown." if len(every) > len(years) else ""
        return Panels(parts, said, yearly=True)
    shown = min(total, 2 * PANEL_STEPS)
    rows = 1 if shown <= 600 else 2 if shown <= 1600 else 3
    cuts = np.linspace(total - shown, total, rows + 1).astype(int).tolist()
    said = f" The last {shown:,} of {total:,} {step}s are shown." if shown < total else ""
    return Panels([("", slice(a, b)) for a, b in zip(cuts[:-1], cuts[1:], strict=True)], said)


def series_plate(chapter: Chapter) -> Plate:
    """The series, each step coloured by its decoded state."""
    series, shown = chapter.series, panels(chapter)
    wanted = range(min(chapter.data.shape[1], 6 if len(shown.parts) == 1 else 2))
    cells = [(column, heading, steps) for heading, steps in shown.parts for column in wanted]
    made, grid = plots.figure(9.2, 0.5 + 1.55 * len(cells), rows=len(cells), squeeze=False)
    for place, (column, heading, steps) in enumerate(cells):
        axes = grid[place, 0]
        plots.decoded_series(
            axes,
            chapter.time(steps),
            chapter.data[steps, column],
            chapter.viterbi[steps],
            states=chapter.states,
            bars=chapter.amounts,
            label=chapter.words.label(series.columns[column]),
            labels=chapter.labels,
            legend=place == 0 and chapter.states > 1,
        )
        heading_of(axes, heading, shown.yearly)
        drawn = np.concatenate([chapter.data[part, column] for _, part in shown.parts])
        axes.set_ylim(*_limits(drawn, chapter.amounts))
    step = chapter.words.step
    what = f"Each {step} in the colour of its state on the most probable path (Viterbi); the band repeats it."
    missing = int((~series.step_observed).sum())
    if missing:
        what += f" {missing:,} {step}s without a measurement (white ticks on the band) are not filled in."
    if len(wanted) < chapter.data.shape[1]:
        what += f" The first {len(wanted)} of {chapter.data.shape[1]} columns are shown."
    return Plate("series", "The series and its states", what + shown.left_out, made)


def symbols_plate(chapter: Chapter) -> Plate:
    """The share of the symbols that tell the states apart, in windows along each sequence, coloured by state."""
    series, words = chapter.series, chapter.words
    symbols = series.categories or ()
    chances = say.emission_parameters(chapter.fit)["probabilities"].numpy()
    marked = chances[0] > chances.mean(0) if chapter.states > 1 else chances[0] >= chances[0].max()
    picked = "+".join(symbol for symbol, mark in zip(symbols, marked, strict=True) if mark)
    rows = min(series.count, MOST_SHOWN)
    made, grid = plots.figure(9.2, 0.6 + 1.9 * rows, rows=rows, squeeze=False)
    width = 1
    for n, axes in enumerate(grid[:, 0]):
        span = chapter.span(n)
        first, width = windows(span, 400)
        known = series.step_observed[span].numpy().astype(float)
        hits = marked[series.values[span].long().numpy()] * known
        counted = np.add.reduceat(known, first)
        share = np.divide(np.add.reduceat(hits, first), counted, out=np.full(len(first), np.nan), where=counted > 0)
        state = np.add.reduceat(np.eye(chapter.states)[chapter.viterbi[span]], first).argmax(1)
        plots.decoded_series(
            axes,
            chapter.time(span)[first + (width - 1) // 2 * (first + (width - 1) // 2 < len(known))],
            share,
            state,
            states=chapter.states,
            label=f"share of {picked}",
            labels=chapter.labels,
            legend=n == 0 and chapter.states > 1,
        )
        heading_of(axes, str(series.ids[n]) if series.count > 1 else "")
    what = (
        f"Share of {picked} in windows of {say.plural(width, words.step)}, in the colour of their most frequent state."
    )
    left = f" The first {rows} of {series.count:,} sequences are shown." if rows < series.count else ""
    return Plate("series", "The sequence and its states", what + left, made)


def probabilities_plate(chapter: Chapter) -> Plate:
    """Smoothed state probabilities over time."""
    long = chapter.series.categories is not None
    shown = panels(chapter)
    if long:
        spans = [chapter.span(n) for n in range(min(chapter.series.count, MOST_SHOWN))]
        shown = Panels([(str(chapter.series.ids[n]) if len(spans) > 1 else "", s) for n, s in enumerate(spans)])
    made, grid = plots.figure(9.2, 0.5 + 0.85 * len(shown.parts), rows=len(shown.parts), squeeze=False)
    for place, (axes, (heading, steps)) in enumerate(zip(grid[:, 0], shown.parts, strict=True)):
        first, width = windows(steps, PANEL_STEPS)
        sizes = np.diff(np.append(first, steps.stop - steps.start))
        averaged = np.add.reduceat(chapter.smoothed[steps], first, axis=0) / sizes[:, None]
        plots.state_probabilities(axes, chapter.time(steps)[first], averaged, labels=chapter.labels, legend=place == 0)
        heading_of(axes, heading, shown.yearly)
    sure = float((chapter.smoothed.max(1) > 0.9).mean())
    caption = (
        f"Probability of each state given the whole series. {sure:.0%} of {chapter.words.step}s have a state that is "
        f"more than 90% probable.{shown.left_out}"
    )
    return Plate("probabilities", "How sure the states are", caption, made)


def transitions_plate(chapter: Chapter) -> Plate:
    """The chain as circles and arrows."""
    matrix = say.transition_matrix(chapter.fit, chapter.series).numpy()
    made, axes = plots.figure(5.4, 1.9 if len(matrix) == 2 else 3.9)
    plots.transition_diagram(axes, matrix, labels=[row.name for row in chapter.rows])
    hidden = int((matrix > 0).sum() - drawn_moves(matrix).sum() - (matrix.diagonal() > 0).sum())
    caption = f"Chance of each move from one {chapter.words.step} to the next; arrows are as wide as they are probable."
    if hidden:
        caption += (
            f" {hidden} rare move{'s have' if hidden > 1 else ' has'} no arrow (under 5% of a state's departures)."
        )
    return Plate("transitions", "How states follow each other", caption, made)


def emissions_plate(chapter: Chapter) -> Plate:
    """The data's histogram and what each state emits."""
    series, step = chapter.series, chapter.words.step
    parameters = say.emission_parameters(chapter.fit)
    known = series.step_observed
    made, axes = plots.figure(6.4, 3.3)
    if isinstance(chapter.family, Categorical):
        chances = parameters["probabilities"].numpy()
        observed = torch.bincount(series.values[known].long(), minlength=chances.shape[1]).numpy() / int(known.sum())
        symbols = series.categories or tuple(str(code) for code in range(chances.shape[1]))
        plots.symbol_shares(axes, observed, chances, symbols, step=step, labels=chapter.labels)
        return Plate(
            "emissions", "What each state emits", "Chance of each symbol in each state, beside the data.", made
        )
    extra_zero = say.has_extra_zero(chapter.family)
    plots.emission_densities(
        axes,
        chapter.data[known.numpy(), 0],
        lambda x: chapter.family.cdf(torch.from_numpy(x), parameters).numpy(),
        chapter.smoothed[known.numpy()].mean(0),
        counts=chapter.family.discrete,
        extra_zero=extra_zero,
        label=chapter.words.label(series.columns[0])
        + (f" on a {chapter.words.occurring[0]} {step}" if extra_zero else ""),
        step=step,
        labels=chapter.labels,
    )
    caption = f"Share of {step}s in each bin: grey for the data, a line for each state weighted by how often it occurs."
    if axes.get_xscale() == "log":
        caption += " The horizontal axis is logarithmic, and heights are per doubling of the value."
    return Plate("emissions", "What each state emits", caption, made)


def forecast_plate(chapter: Chapter) -> Plate:
    """The forecast fan of the first sequences."""
    series, words = chapter.series, chapter.words
    horizon = chapter.horizon or int(np.clip(series.total_steps // series.count // 8, 4, 21))
    table = chapter.fit.forecast(series, horizon)
    shown = range(min(series.count, 2))
    chances = _wet_chances(chapter, table) if words.wet else None
    ratios = {} if chances is None else {"width_ratios": (2.6, 1)}
    made, grid = plots.figure(
        9.2, 2.9 * len(shown), rows=len(shown), columns=1 if chances is None else 2, squeeze=False, **ratios
    )
    for n in shown:
        span, rows = chapter.span(n), slice(n * horizon, (n + 1) * horizon)
        recent = slice(max(span.start, span.stop - max(40, 2 * horizon)), span.stop)
        plots.forecast_fan(
            grid[n, 0],
            chapter.time(recent),
            chapter.data[recent, 0],
            table.index[rows],
            table.iloc[rows],
            label=words.label(series.columns[0]),
            bars=chapter.amounts,
        )
        heading_of(grid[n, 0], str(series.ids[n]) if series.count > 1 else "", inside=True)
        if n > 0:
            grid[n, 0].get_legend().remove()
        if chances is not None:
            plots.chance_ahead(grid[n, 1], chances[0][rows], long_run=chances[1], step=words.step)
    how = "simulated" if chapter.family.context.lags else "exact"
    caption = (
        f"The next {say.plural(horizon, words.step)}: the {how} predictive distribution of each {words.step} given the "
        "series. It settles to the long-run distribution as the last state is forgotten."
    )
    return Plate("forecast", "What comes next", caption, made)


def _wet_chances(chapter: Chapter, table: pd.DataFrame) -> tuple[np.ndarray, float]:
    """The chance of a wet step at each row of a forecast, and in the long run."""
    wet, _ = say.wet_shares(chapter.fit)
    law = say.occupancy(chapter.fit, chapter.series).numpy()
    return table[[f"probability_{k}" for k in range(chapter.states)]].to_numpy() @ wet, float(law @ wet)


def search_plate(chapter: Chapter) -> Plate:
    """How the objective rose, and where each start ended; of a sampler, how its chains went."""
    fit, what = chapter.fit, chapter.objective_name
    if fit.sampling is not None:
        made, grid = plots.figure(9.2, 2.7, columns=2, squeeze=False)
        log_density = fit.sampling.statistics["lp"].numpy()
        plots.chain_traces(grid[0, 0], log_density)
        plots.chain_ranks(grid[0, 1], log_density, what="log density")
        caption = f"The chains of the sampler, {fit.stop_reason}. Chains that agree lie on each other, and rank alike."
        return Plate("search", "How the posterior was sampled", caption, made)
    both = len(fit.attempts) > 1
    made, grid = plots.figure(9.2 if both else 5.0, 2.7, columns=2 if both else 1, squeeze=False)
    plots.objective_trace(grid[0, 0], fit.objective.numpy(), what=what)
    caption = f"The start that was kept ended after {say.plural(fit.iterations, 'iteration')}: {fit.stop_reason}."
    if both:
        ends = np.array([attempt.objective for attempt in fit.attempts])
        plots.restart_outcomes(grid[0, 1], ends.tolist(), what=what)
        agree, failed = int((np.nanmax(ends) - ends < 0.01).sum()), int(np.isnan(ends).sum())
        caption += f" {agree} of {len(ends)} starts ended within 0.01 nats of the best."
        if failed:
            caption += f" {failed} ended with an unusable state (crosses)."
    return Plate("search", "How the fit was found", caption, made)


def windows(steps: slice, most: int) -> tuple[np.ndarray, int]:
    """(first step of each window from the start of `steps`, steps in a window), at most about `most` windows."""
    total = steps.stop - steps.start
    width = -(-total // most)
    return np.arange(0, total, width), width


def heading_of(axes: Any, heading: str, year: bool = False, inside: bool = False) -> None:
    """Name a panel at its upper right corner, above the Axes or inside; a year has all its days on the axis."""
    if heading:
        place = {"va": "top", "y": 0.97, "x": 0.985} if inside else {"va": "bottom", "y": 1.0, "x": 1.0}
        axes.text(s=heading, transform=axes.transAxes, ha="right", fontweight="bold", **place)
    if year:
        axes.set_xlim(pd.Timestamp(int(heading), 1, 1), pd.Timestamp(int(heading) + 1, 1, 1))


def _limits(values: np.ndarray, amounts: bool) -> tuple[float, float]:
    """Common limits of the panels of one column."""
    low, high = float(np.nanmin(values, initial=np.inf)), float(np.nanmax(values, initial=-np.inf))
    if not np.isfinite(low) or not np.isfinite(high):
        return 0.0, 1.0
    margin = 0.06 * (high - low) or 0.5
    return (0.0, high + margin) if amounts else (low - margin, high + margin)
