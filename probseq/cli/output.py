"""Standard output, and CSV to it or to a file."""

import io
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from probseq.io.writing import write_text


def write_stdout(text: str) -> None:
    """Print at once, so that a closed pipe shows here and not at exit."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_csv(frame: pd.DataFrame, out: Path | None, *, index: bool) -> None:
    """A frame as CSV, with all digits; to standard output where there is no file."""
    text = frame.to_csv(index=index, lineterminator="\n")
    if out is None:
        write_stdout(text)
        return
    write_text(out, text)
    print(f"{len(frame):,} rows written to {out}", file=sys.stderr)


def print_rich(*blocks: Any) -> None:
    """Tables and text for a reader; plain where standard output is no terminal."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    buffer = io.StringIO()
    width = None if terminal else 120
    console = Console(file=buffer, force_terminal=terminal, width=width, highlight=False)
    if terminal:
        console = Console(file=buffer, force_terminal=True, width=Console().width, highlight=False)
    for block in blocks:
        console.print(block)
    write_stdout(buffer.getvalue())
