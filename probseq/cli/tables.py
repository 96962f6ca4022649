"""A fit as tables for the terminal."""

from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from probseq.cli.output import print_rich
from probseq.report import words as say
from probseq.report.chapter import Chapter, candidate_rows


def print_fit(chapter: Chapter, out: Path | None = None, file: Path | None = None) -> None:
    """Everything that a reader wants of a fit."""
    blocks: list[Any] = [heading(chapter)]
    if chapter.fit.sampling is None:  # of a posterior, neither AIC nor BIC says anything
        blocks.append(models_table(chapter))
    failed = [row for row in candidate_rows(chapter) if row["failed"]]
    blocks += [Text(f"{say.plural(row['states'], 'state')}: {row['failed']}", style="dim") for row in failed]
    blocks.append(states_table(chapter))
    if chapter.states > 1:
        blocks.append(transitions_table(chapter))
    if chapter.fit.n_draws > 1:
        blocks.append(posterior_table(chapter))
    blocks.append(search_line(chapter))
    if out is not None:
        saved = f"Saved in {out}."
        if file is not None:
            saved += f" Next: probseq report {out} {file}, or decode, forecast, simulate."
        blocks += [Text(saved, style="dim")]
    print_rich(*blocks)


def heading(chapter: Chapter) -> Text:
    """What was fitted to what."""
    columns = ", ".join(chapter.fit.columns)
    text = Text(f"{chapter.title}", style="bold")
    text.append(f"  {columns}: {chapter.period()}", style="not bold")
    model = f"\nhidden Markov model, {say.plural(chapter.states, 'state')}, {chapter.family.name} emissions"
    moves = chapter.fit.model.transition.design  # type: ignore[union-attr]
    if moves:
        model += f", moves by {', '.join(moves.names[1:])}"
    return text.append(model, style="not bold")


def models_table(chapter: Chapter) -> Table:
    """Log-likelihood, AIC and BIC for each number of states."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("states", "log-likelihood", "parameters", "AIC", "BIC", ""):
        table.add_column(name, justify="right" if name else "left")
    rows = candidate_rows(chapter)
    for row in rows:
        chosen = row["chosen"] and len(rows) > 1
        note = "lowest BIC" if chosen else "failed" if row["failed"] else ""
        cells = row["cells"] or ["-"] * 4
        table.add_row(str(row["states"]), *cells, note, style="bold" if chosen else None)
    return table


def states_table(chapter: Chapter) -> Table:
    """Each state in plain words, with its parameters."""
    names = list(dict.fromkeys(name for row in chapter.rows for name in row.parameters))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("state", justify="right")
    table.add_column("reading", overflow="fold", min_width=24)
    table.add_column("share of time", justify="right")
    for name in names:
        table.add_column(escape(name), justify="right")
    for row in chapter.rows:
        reading = Text(f"{row.name}: ", style="bold").append(row.reading, style="not bold")
        cells = [row.parameters.get(name, "") for name in names]
        table.add_row(str(row.number), reading, say.share(row.share), *cells)
    return table


def transitions_table(chapter: Chapter) -> Table:
    """The transition matrix in per cent, and the law of the first state."""
    matrix = say.transition_matrix(chapter.fit, chapter.series)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    on_average = ", on average" if chapter.fit.model.transition.design else ""  # type: ignore[union-attr]
    table.add_column(f"from one {chapter.words.step} to the next{on_average}")
    for k in range(chapter.states):
        table.add_column(f"to {k}", justify="right")
    for row in chapter.rows:
        cells = [say.share(float(chance)) for chance in matrix[row.number]]
        table.add_row(f"from {row.number} {escape(row.name)}", *cells)
    return table


def posterior_table(chapter: Chapter) -> Table:
    """Mean, spread, 90% interval and convergence of every number that was drawn."""
    from probseq.diagnostics import posterior_summary

    found = posterior_summary(chapter.fit)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("posterior")
    for name in ("mean", "sd", "5%", "95%", "R-hat", "effective draws"):
        table.add_column(name, justify="right")
    for name, row in found.iterrows():
        numbers = [say.number(float(row[key])) for key in ("mean", "sd", "q5", "q95")]
        rhat = "-" if row["rhat"] != row["rhat"] else f"{row['rhat']:.3f}"
        draws = "-" if row["ess_bulk"] != row["ess_bulk"] else f"{row['ess_bulk']:,.0f}"
        table.add_row(escape(str(name)), *numbers, rhat, draws, style="red" if row["rhat"] > 1.01 else None)
    return table


def search_line(chapter: Chapter) -> Text:
    """Whether and how the fit ended."""
    fit = chapter.fit
    ends = [attempt.objective for attempt in fit.attempts if attempt.objective == attempt.objective]
    agree = sum(max(ends) - end < 0.01 for end in ends) if ends else 0
    starts = f" {agree} of {len(fit.attempts)} starts ended within 0.01 nats of the best." if len(ends) > 1 else ""
    how = "" if fit.converged else " did NOT converge" if fit.sampling is None else " did NOT mix"
    steps = "," if fit.sampling is not None else f" {say.plural(fit.iterations, 'iteration')},"
    named = f"; states matched by {fit.sampling.relabelled}" if fit.sampling and fit.sampling.relabelled else ""
    ended = f"{say.METHODS[fit.method]}{how}{steps} {fit.seconds:.1f} s: {fit.stop_reason}{named}."
    return Text(ended + starts, style="" if fit.converged else "bold red")
