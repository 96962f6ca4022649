"""Figures that hold the data against simulations of the fitted model: spell lengths and monthly totals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from probseq import plots
from probseq.plots.spells import outside_band
from probseq.plots.totals import months_outside
from probseq.report.chapter import Chapter
from probseq.report.plates import MOST_SHOWN, Plate, heading_of

BAND = 0.9


def spells_plate(chapter: Chapter) -> Plate:
    """Spell lengths, observed against simulated."""
    series, names, step = chapter.series, chapter.words.occurring, chapter.words.step
    known, lengths = series.step_observed.numpy(), series.lengths.numpy()
    made, grid = plots.figure(9.2, 3.5, columns=2, sharey=True)
    said = []
    for axes, name, zero in zip(grid, names, (False, True), strict=True):
        seen = plots.spell_durations((chapter.data[:, 0] == 0) == zero, lengths, known)
        drawn = [plots.spell_durations((run == 0) == zero, lengths, known) for run in chapter.simulations]
        plots.spell_lengths(axes, seen, drawn, step=step, what=f"{name} spells", band=BAND)
        above, below, compared = outside_band(seen, drawn, BAND)
        agree = f"{compared - above - below} of {compared}" if above + below else f"all {compared}"
        telling = max(above, below) > compared / 2
        longer = f" ({'long' if above > below else 'short'}er than the model's)" if telling else ""
        said.append(f"for {name} spells the data lie within it at {agree} durations that 5 or more reached{longer}")
    grid[1].set_ylabel("")
    caption = (
        f"Share of spells that last at least so long. The band covers {BAND:.0%} of {len(chapter.simulations)} series "
        f"simulated from the fitted model, as long as the data; {'; '.join(said)}. A spell that touches an end of the "
        f"data{'' if known.all() else f' or a missing {step}'} has no known length and is left out."
    )
    return Plate("spells", f"{names[0].capitalize()} and {names[1]} spells, observed and simulated", caption, made)


def totals_plate(chapter: Chapter) -> Plate:
    """Monthly totals, observed against simulated, one panel a sequence."""
    series = chapter.series
    shown = range(min(series.count, MOST_SHOWN))
    made, grid = plots.figure(9.2, 3.4 * len(shown), rows=len(shown), squeeze=False)
    said, most = [], 0
    for n, axes in zip(shown, grid[:, 0], strict=True):
        span = chapter.span(n)
        time = pd.DatetimeIndex(chapter.time(span))
        seen = plots.month_sums(time, chapter.data[span, 0])
        drawn = plots.month_sums(time, np.stack([run[span] for run in chapter.simulations], axis=1))
        plots.monthly_totals(axes, seen, drawn, label=chapter.words.label("monthly total"), band=BAND)
        heading_of(axes, str(series.ids[n]) if len(shown) > 1 else "", inside=True)
        if n > 0:
            axes.get_legend().remove()
        off = months_outside(seen, drawn, BAND)
        most = max(most, len(off))
        where = f" at {series.ids[n]}" if len(shown) > 1 else ""
        count = "all 12" if len(off) == 12 else f"{len(off)} of 12"
        named = f" ({', '.join(off)})" if 0 < len(off) < 12 else ""
        said.append(f"{count} observed means{where} lie outside{named}")
    season = "These months show that the model knows no seasons." if most >= 4 else "The model knows no seasons."
    caption = (
        f"Mean total of each calendar month over the years of the data. The band covers {BAND:.0%} of simulations of "
        f"the same years: {'; '.join(said)}, where about one would by chance. {season}"
    )
    return Plate("totals", "Monthly totals, observed and simulated", caption, made)
