"""`probseq select`: fit a range of states, compare them by information criteria, and say which is best."""

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from probseq.cli.fitting import INTERRUPTED, Search, candidate_records, finite, was_interrupted
from probseq.cli.output import print_rich, write_csv, write_stdout
from probseq.cli.source import Source
from probseq.inference.criteria import CRITERIA
from probseq.inference.selection import Selection
from probseq.io.writing import check_writable
from probseq.report import words as say
from probseq.sequences import Sequences

CLOSE = 2.0
"""Difference of a criterion that is not worth more than a bare mention (Kass and Raftery 1995)."""


def run(file: Path, source: Source, search: Search, out: Path | None, as_json: bool) -> int:
    """Compare and print; the exit code."""
    models = search.models()
    if out is not None:
        check_writable(out)
    series = search.read(file, source)
    selection = search.run(series)
    if out is not None:
        write_csv(selection.table, out, index=False)
    if as_json:
        chosen = {"criterion": selection.criterion, "states": selection.best.model.states}  # type: ignore[union-attr]
        content = finite(chosen | {"candidates": list(candidate_records(selection))})
        write_stdout(json.dumps(content, allow_nan=False) + "\n")
    else:
        print_rich(_heading(file, series, search), _table(selection), *_words(selection))
    return INTERRUPTED if was_interrupted(selection, len(models), search) else 0


def _heading(file: Path, series: Sequences, search: Search) -> Text:
    seen = f"{int(series.step_observed.sum()):,} observed steps"
    if series.count > 1:
        seen += f" in {series.count:,} sequences"
    model = f"\nhidden Markov models with {search.family} emissions, by EM from {say.plural(search.starts, 'start')}"
    return Text(file.name, style="bold").append(f"  {', '.join(series.columns)}: {seen}{model}", style="not bold")


def _table(selection: Selection) -> Table:
    """A row for each number of states, the best one marked."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("states", "log-likelihood", "parameters", *(name.upper() for name in CRITERIA)):
        table.add_column(name.replace("AICC", "AICc"), justify="right")
    table.add_column("")
    for row in selection.table.to_dict("records"):
        cells = ["-"] * (2 + len(CRITERIA))
        if not row["failed"]:
            values = (f"{row[name]:,.1f}" for name in CRITERIA)
            cells = [f"{row['log_likelihood']:,.2f}", f"{row['n_parameters']:.0f}", *values]
        note = f"lowest {_title(selection.criterion)}" if row["chosen"] else "failed" if row["failed"] else ""
        if not (row["failed"] or row["converged"]):
            note = f"{note}, not converged".removeprefix(", ")
        table.add_row(str(row["states"]), *cells, note, style="bold" if row["chosen"] else None)
    return table


def _words(selection: Selection) -> list[Text]:
    """Why some failed, how near the others come, what other criteria would take, and what to do next."""
    table = selection.table
    lines = [
        Text(f"{say.plural(row['states'], 'state')}: {row['failed']}", style="dim")
        for row in table.to_dict("records")
        if row["failed"]
    ]
    fitted: Any = table[table["failed"] == ""].set_index("states")
    best, values = int(fitted.index[fitted["chosen"]][0]), fitted[selection.criterion]
    near = [str(states) for states in fitted.index if states != best and values[states] - values[best] < CLOSE]
    said = f"{say.plural(best, 'state')} by {_title(selection.criterion)}"
    if near:
        said += f", and {' and '.join(near)} within {CLOSE:g} of it, which is hardly worth a mention"
    others: dict[int, list[str]] = {}
    for name in CRITERIA:
        others.setdefault(int(fitted[name].idxmin()), []).append(_title(name))
    others.pop(best, None)
    told = [f"{', '.join(names)} would take {states}" for states, names in sorted(others.items())]
    said += "; ".join(["", *told]) + "."
    next_step = f"Next: probseq fit, the same but for --states {best}, with --out DIR to keep it."
    return [*lines, Text(said, style="bold"), Text(next_step, style="dim")]


def _title(criterion: Any) -> str:
    return "AICc" if criterion == "aicc" else str(criterion).upper()
