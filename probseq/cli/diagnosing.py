"""`probseq diagnose`: what speaks against a saved fit, on the terminal and as a page."""

import json
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from probseq.cli.fitting import chapter_of, finite
from probseq.cli.output import print_rich, write_stdout
from probseq.cli.source import load
from probseq.errors import DataError
from probseq.io.writing import check_writable

MOST_ROWS = 24
"""Rows of a table that the terminal shows; the page has all."""


def run(saved: Path, file: Path, replicates: int, out: Path | None, as_json: bool) -> None:
    """Answer every question, print the verdicts and write the page."""
    from probseq.report.diagnosis import Diagnosis, write_diagnosis

    if out is not None:
        check_writable(out)
    if replicates < 20:
        raise DataError(f"replicates must be at least 20, got {replicates}; 200 give a band that can be trusted.")
    fit, source = load(saved)
    chapter = chapter_of(fit, source, source.read(file), f"{', '.join(fit.columns)} in {file.name}")
    diagnosis = Diagnosis(chapter, replicates)
    if as_json:
        write_stdout(_json(diagnosis))
    else:
        print_rich(*_blocks(diagnosis))
    if out is not None:
        write_diagnosis(diagnosis, out)
        if not as_json:
            write_stdout(f"Diagnosis written to {out}\n")


def _blocks(diagnosis: Any) -> list[Any]:
    from probseq.report.diagnosis import table_cells

    blocks: list[Any] = []
    for section in diagnosis.sections:
        mark = "  look here" if section.trouble else ""
        blocks.append(Text(f"{section.title}", style="bold").append(mark, style="bold red"))
        blocks.append(Text(section.verdict))
        names, rows = table_cells(section.table)
        if rows:
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
            for place, name in enumerate(names):
                table.add_column(escape(name), justify="right" if place else "left", overflow="fold")
            for row in rows[:MOST_ROWS]:
                table.add_row(*map(escape, row))
            blocks.append(table)
            if len(rows) > MOST_ROWS:
                blocks.append(Text(f"and {len(rows) - MOST_ROWS} rows more: see --json or --out", style="dim"))
        blocks.append(Text(""))
    return blocks


def _json(diagnosis: Any) -> str:
    content = {
        section.name: {
            "title": section.title,
            "verdict": section.verdict,
            "trouble": section.trouble,
            "table": section.table.reset_index().to_dict("records"),
        }
        for section in diagnosis.sections
    }
    return json.dumps(finite(content), allow_nan=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """What numpy and pandas have in tables, as JSON has it."""
    return value.item() if hasattr(value, "item") else str(value)
