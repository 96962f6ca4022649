"""`probseq datasets`: list them, or write one as a file."""

import difflib
import sys
from pathlib import Path

from probseq import datasets
from probseq.cli.output import print_rich, write_csv, write_stdout
from probseq.errors import DataError
from probseq.io.writing import check_writable, write_whole


def run(name: str | None, out: Path | None) -> None:
    """List all, describe one, or write one."""
    if name is None:
        if out is not None:
            raise DataError("--out must come with the name of a data set, got none; see `probseq datasets`.")
        _list()
        return
    entry = find(name)
    if out is None:
        where = (
            f"file: {datasets.path(entry.name)}" if entry.file else "not here: name a file with --out to download it"
        )
        write_stdout(f"{entry.what}\n{entry.steps}; {entry.source}; {entry.licence}\n{where}\n")
        return
    check_writable(out)
    if entry.file is not None:
        write_whole(out, datasets.path(entry.name).read_bytes())
        print(f"{entry.name} written to {out}", file=sys.stderr)
        return
    write_csv(datasets.hong_kong_rainfall().to_frame(), out, index=True)


def find(name: str) -> datasets.Dataset:
    """The entry of this name; hyphens and a unique beginning will do."""
    wanted = name.lower().replace("-", "_")
    names = [entry.name for entry in datasets.catalogue]
    found = [entry for entry in datasets.catalogue if entry.name == wanted] or [
        entry for entry in datasets.catalogue if entry.name.startswith(wanted)
    ]
    if len(found) != 1:
        close = difflib.get_close_matches(wanted, names, n=1)
        hint = f"did you mean {close[0]}?" if close else "see `probseq datasets`."
        raise DataError(f"a data set must be one of {', '.join(names)}, got {name!r}; {hint}")
    return found[0]


def _list() -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("name", "what", "size", "source", "licence"):
        table.add_column(column, overflow="fold")
    for entry in datasets.catalogue:
        table.add_row(entry.name, entry.what, entry.steps, entry.source, entry.licence)
    print_rich(table, "Write one as a file: probseq datasets NAME --out FILE")
