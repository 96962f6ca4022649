"""The figures of a diagnosis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from probseq import plots
from probseq.diagnostics.decoding import DecodingUncertainty
from probseq.report.chapter import Chapter
from probseq.report.plates import MOST_SHOWN, PANEL_STEPS, Plate, heading_of, panels, windows


def residual_plates(chapter: Chapter, residuals: pd.DataFrame) -> Sequence[Plate]:
    """A figure for each of the first columns: residuals along time, quantiles, histogram, autocorrelation."""
    columns = [""] if "normal" in residuals else list(chapter.series.columns[:MOST_SHOWN])
    return [_residual_plate(chapter, residuals, column) for column in columns]


def _residual_plate(chapter: Chapter, residuals: pd.DataFrame, column: str) -> Plate:
    made, grid = plots.figure(9.2, 6.4, rows=3, columns=2, squeeze=False, height_ratios=(1.15, 1, 1))
    for axes in grid[0]:
        axes.remove()
    first = chapter.span(0)
    along = made.add_subplot(grid[0, 0].get_gridspec()[0, :])
    plots.residual_series(along, chapter.time(first), residuals.iloc[first], column=column)
    lengths = chapter.series.lengths.tolist()
    plots.residual_quantiles(grid[1, 0], residuals, column=column)
    plots.residual_histogram(grid[1, 1], residuals, column=column)
    plots.residual_autocorrelation(grid[2, 0], residuals, column=column, lengths=lengths)
    plots.residual_autocorrelation(grid[2, 1], residuals, column=column, lengths=lengths, squared=True)
    shown = "" if chapter.series.count == 1 else f" Along time the first of {chapter.series.count:,} sequences."
    caption = (
        "Where each observation lies in its one-step forecast, as a normal deviate. Points off the line or the curve "
        f"tell of a wrong law, bars out of the band of memory that the states do not have.{shown}"
    )
    name = f"residuals-{column}" if column else "residuals"
    return Plate(name, f"Forecast residuals of {column}" if column else "Forecast residuals", caption, made)


def check_plate(table: pd.DataFrame) -> Plate:
    """Statistics of the data against simulated series."""
    made, axes = plots.figure(8.0, 0.9 + 0.26 * len(table))
    plots.predictive_check(axes, table)
    caption = (
        "Each row a statistic on its own scale: the band holds 90% of simulated series, the mark is the data. At the "
        "right, its value and its posterior predictive p-value."
    )
    return Plate("checks", "Data against simulated series", caption, made)


def uncertainty_plate(chapter: Chapter, found: DecodingUncertainty) -> Plate:
    """Entropy and changes along time."""
    shown = panels(chapter)
    made, grid = plots.figure(9.2, 0.6 + 1.0 * len(shown.parts), rows=len(shown.parts), squeeze=False)
    entropy, change = (found.steps[name].to_numpy(float) for name in ("entropy", "change"))
    for place, (axes, (heading, steps)) in enumerate(zip(grid[:, 0], shown.parts, strict=True)):
        first, _ = windows(steps, PANEL_STEPS)
        sizes = np.diff(np.append(first, steps.stop - steps.start))
        mean = np.add.reduceat(entropy[steps], first) / sizes
        most = np.maximum.reduceat(change[steps], first)
        plots.path_uncertainty(axes, chapter.time(steps)[first], mean, most, states=chapter.states)
        heading_of(axes, heading, shown.yearly)
        if place > 0:
            axes.get_legend().remove()
    caption = (
        f"How little is known of the state of each {chapter.words.step}: zero is certain, one is a state at random. "
        f"Lines are the chance that the state changes after the {chapter.words.step}.{shown.left_out}"
    )
    return Plate("uncertainty", "Entropy of the states, and where they change", caption, made)
