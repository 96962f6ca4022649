"""`probseq demo`: two rainfall climates, one to four states each, and a report."""

import sys
import time
from pathlib import Path

from probseq import datasets
from probseq.cli.fitting import INTERRUPTED, Search, candidate_records, chapter_of, was_interrupted
from probseq.cli.output import print_rich, write_stdout
from probseq.cli.source import Source
from probseq.cli.tables import print_fit
from probseq.io.writing import check_writable

STATIONS = ("Seattle", "New York")
SEARCH = Search("1:4", "hurdle-gamma", restarts=3, priors=True)
LEAD = (
    "Daily precipitation, 2012 to 2015, read as the work of a hidden weather state that changes from day to day. A "
    "state decides how likely rain is and how much falls; the number of states is chosen by BIC among 1 to 4, for each "
    "station on its own. No day is missing from these records, but they are short and rounded to a tenth of a "
    "millimetre: four years are few for a climate, and the model has no seasons, which the monthly totals show."
)


def run(out: Path) -> int:
    """Fit, print, write; the exit code."""
    from probseq.report import write_report
    from probseq.report.page import slug

    began = time.perf_counter()
    check_writable(out, directory=True)
    chapters, interrupted = [], False
    for station in STATIONS:
        series = datasets.rainfall(station)
        if sys.stderr.isatty():
            print(f"Fitting {station}: 1 to 4 states ...", file=sys.stderr)
        selection = SEARCH.run(series)
        interrupted = was_interrupted(selection, 4, SEARCH)
        source = Source(time="date", group="location", unit="mm", command="probseq demo", seed=SEARCH.seed)
        source = source.of(series, candidate_records(selection))
        place = selection.best.save(out / slug(station))
        source.save(place)
        chapters.append(chapter_of(selection.best, source, series, station))
        print_fit(chapters[-1], place)
        if interrupted:
            break
        print_rich("")
    report = write_report(
        chapters,
        out / "report.html",
        title="Daily rainfall at Seattle and New York",
        lead=LEAD,
        figures=out / "figures",
    )
    write_stdout(f"Report: {report.resolve()}  ({time.perf_counter() - began:.0f} s)\n")
    return INTERRUPTED if interrupted else 0
