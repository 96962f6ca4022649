"""What speaks against a fit: how sure its numbers are, its residuals, what it does not reproduce, its states."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from probseq import diagnostics
from probseq.diagnostics.residual_tests import DOUBT
from probseq.errors import ProbseqError
from probseq.inference import Fit
from probseq.report import words as say
from probseq.report.chapter import Chapter

if TYPE_CHECKING:
    from probseq.report.plates import Plate

MOST_DRAWS = 400
"""Draws that residuals, states and replicates are averaged over; of more, evenly spread ones are taken."""
MOST_SEQUENCES = 10
"""Sequences with a row of their own."""
LARGE_K = 0.7
"""A Pareto k above which a left-out step is not to be trusted (Vehtari, Gelman & Gabry 2017)."""

TITLES = {
    "chains": "Do the chains agree?",
    "parameters": "How sure are the parameters?",
    "residuals": "Do the residuals look as they should?",
    "checks": "What does the model not reproduce?",
    "states": "How sure are the states?",
    "left_out": "How well are left-out steps foretold?",
}
"""The questions."""


@dataclass(frozen=True, eq=False)
class Section:
    """One question and its answer.

    Args:
        name: for file names and links.
        verdict: the answer in a sentence or two.
        table: what the verdict is made from, numbers still as numbers; its index is the first column. May be empty.
        plates: figures.
        trouble: whether the reader should worry.
    """

    name: str
    verdict: str
    table: pd.DataFrame
    plates: Callable[[], Sequence[Plate]] = tuple
    trouble: bool = False

    @property
    def title(self) -> str:
        """The question."""
        return TITLES[self.name]


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The sections that make sense for one fit and its data.

    Args:
        chapter: the fit and the data.
        replicates: simulated series that the data are compared with.
    """

    chapter: Chapter
    replicates: int = 200

    @cached_property
    def sections(self) -> list[Section]:
        """In reading order. A question that the model has no answer to says why."""
        makers = [self._chains] if self.chapter.fit.sampling is not None else []
        makers += [self._parameters, self._residuals, self._checks]
        makers += [self._states] if self.chapter.states > 1 else []
        makers += [self._left_out] if self.chapter.fit.n_draws > 1 else []
        return [section for make in makers for section in _answered(make)]

    @cached_property
    def thinned(self) -> Fit:
        """The fit with not too many draws."""
        fit = self.chapter.fit
        if fit.n_draws <= MOST_DRAWS:
            return fit
        chosen = np.linspace(0, fit.n_draws - 1, MOST_DRAWS).round().astype(int)
        return replace(fit, draws={name: value[chosen] for name, value in fit.draws.items()}, sampling=None)

    def _chains(self) -> Section:
        from probseq.report.plates import search_plate

        fit, found = self.chapter.fit, diagnostics.convergence(self.chapter.fit)
        high = found[found["rhat"] > 1.01]
        verdict = f"{say.METHODS[fit.method]}, {fit.stop_reason}. "
        if len(high):
            worst = f"the highest {high['rhat'].max():.2f} of {high['rhat'].idxmax()}"
            verdict += f"R-hat is above 1.01 for {len(high)} of {len(found)} numbers, {worst}: draw more, or relabel."
        else:
            verdict += f"R-hat is at most {found['rhat'].max():.3f} over all numbers, the fewest effective draws "
            verdict += f"{found['ess_bulk'].min():,.0f}."
        trouble = bool(len(high)) or not fit.converged
        return Section("chains", verdict, high, lambda: [search_plate(self.chapter)], trouble)

    def _parameters(self) -> Section:
        if self.chapter.fit.n_draws > 1:
            table = diagnostics.posterior_summary(self.chapter.fit)[["mean", "sd", "q5", "q95"]]
            return Section("parameters", "Posterior means with intervals of 90%.", table)
        errors = diagnostics.standard_errors(self.chapter.fit, self.chapter.series)
        table = errors.frame()[["estimate", "standard_error", "lower", "upper", "note"]]
        unknown, noted = int(table["standard_error"].isna().sum()), bool(table["note"].ne("").any())
        verdict = f"Estimates at the maximum of the {errors.objective} with intervals of 95% from the {errors.kind}."
        verdict += f" {unknown} of {len(table)} numbers have none; the note says why." if unknown else ""
        return Section("parameters", verdict, table if noted else table.drop(columns="note"))

    def _residuals(self) -> Section:
        from probseq.report.diagnosis_plates import residual_plates

        series = self.chapter.series
        found = diagnostics.forecast_residuals(self.thinned, series, seed=self.chapter.seed)
        table = diagnostics.residual_tests(found)
        names = objections(table)
        verdict = "Forecast pseudo-residuals are independent standard normal numbers if the model is right. "
        if names:
            verdict += f"Against it, at 5% for all {len(table)} tests together: {', '.join(names)}."
        else:
            verdict += "No test objects. "
        index = [name for name in ("column", "test") if name in table]
        return Section(
            "residuals",
            verdict.strip(),
            table.set_index(index[0] if len(index) == 1 else index),
            lambda: residual_plates(self.chapter, found),
            bool(names),
        )

    def _checks(self) -> Section:
        from probseq.report.diagnosis_plates import check_plate

        table = diagnostics.predictive_check(
            self.thinned, self.chapter.series, replicates=self.replicates, seed=self.chapter.seed
        )
        outside = table[table["observed"].notna() & ~table["inside"]]
        expected, count = 0.1 * len(table), len(outside)
        verdict = (
            f"{count} of {len(table)} statistics of the data lie outside the band of 90% of simulated series; about "
        )
        verdict += f"{expected:.0f} would under the right model."
        verdict += f" Outside: {'; '.join(map(str, outside.index))}." if count else ""
        trouble = count > max(2.0 * expected, 2.0)
        plates = (lambda: [check_plate(table)]) if len(table) else tuple
        return Section("checks", verdict, table, plates, trouble)

    def _states(self) -> Section:
        from probseq.report.diagnosis_plates import uncertainty_plate

        found = diagnostics.decoding_uncertainty(self.thinned, self.chapter.series)
        steps, words = found.steps, self.chapter.words
        chance = steps[[f"probability_{k}" for k in range(self.chapter.states)]].max(axis=1)
        changes = float(found.sequences["changes"].sum())
        verdict = f"{(chance > 0.9).mean():.0%} of {words.step}s have a state that is more than 90% probable; "
        verdict += f"{changes:,.0f} changes of state are expected in all. "
        verdict += "The Viterbi path is one of many: its log probability given the data is "
        verdict += f"{found.sequences['viterbi_log_probability'].sum():,.1f}."
        table = found.sequences.head(MOST_SEQUENCES)
        return Section("states", verdict, table, lambda: [uncertainty_plate(self.chapter, found)])

    def _left_out(self) -> Section:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said in the verdict
            found: Any = diagnostics.loo(self.chapter.fit, self.chapter.series)
        limit = min(LARGE_K, float(found.good_k))  # few draws bear less
        large = int((np.asarray(found.pareto_k) > limit).sum())
        verdict = f"Expected log predictive density of a left-out {self.chapter.words.step}, PSIS-LOO: "
        verdict += (
            f"{found.elpd:,.1f} nats in all (standard error {found.se:,.1f}), {found.p:.1f} effective parameters. "
        )
        verdict += f"{large} Pareto k above {limit:.2g}." if large else f"Every Pareto k is below {limit:.2g}."
        table = pd.DataFrame(
            {"elpd": [found.elpd], "se": [found.se], "p": [found.p], "large k": [large]}, index=["loo"]
        )
        return Section("left_out", verdict, table, tuple, large > 0)


def objections(table: pd.DataFrame) -> list[str]:
    """The tests that object at 5% for all of them together (Bonferroni), each named once.

    Of a dozen tests at 5% each, one objects to the right model every second or third time.

    Args:
        table: of `residual_tests`.
    """
    against = table[table["p_value"] < DOUBT / max(len(table), 1)]
    return list(dict.fromkeys(f"{row.test} of {row.of}" for row in against.itertuples()))


def _answered(make: Callable[[], Section]) -> Iterator[Section]:
    """The section, or a line on why there is none."""
    try:
        yield make()
    except ProbseqError as error:
        name = make.__name__.removeprefix("_")
        yield Section(name, f"Not known: {error}", pd.DataFrame())


def write_diagnosis(diagnosis: Diagnosis, path: str | Path) -> Path:
    """Write the sections as one self-contained HTML page, whole or not at all.

    Args:
        diagnosis: the sections.
        path: of the HTML file.
    """
    from probseq.io.writing import write_text
    from probseq.report.page import draw, page, versions

    chapter = diagnosis.chapter
    parts = [(section, draw(section.plates()), table_cells(section.table)) for section in diagnosis.sections]
    text = page("diagnosis.html.j2").render(
        title=f"Diagnosis: {chapter.title}", lead="", period=chapter.period(), parts=parts, versions=versions()
    )
    write_text(Path(path), text)
    return Path(path)


def table_cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """A table as text: its headings, the index first, and its rows."""
    if not len(table):
        return [], []
    flat = table.reset_index()
    names = ["" if str(name) == "index" else str(name).replace("_", " ") for name in flat.columns]
    return names, [[_cell(name, value) for name, value in row.items()] for row in flat.to_dict("records")]


def _cell(name: Any, value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value != value:
            return "-"
        return f"{value:.2g}" if name == "p_value" else say.number(value) if np.isfinite(value) else f"{value}"
    return f"{value:,}" if isinstance(value, int) else str(value)
