"""The report: one HTML page that holds its figures and opens without a network."""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import probseq
from probseq.io.writing import write_text, write_whole
from probseq.report import words as say
from probseq.report.chapter import Chapter, candidate_rows, summary_sentence

if TYPE_CHECKING:
    from jinja2 import Template

    from probseq.report.plates import Plate

_VERSIONS = ("torch", "pyro-ppl", "numba", "numpy", "pandas", "matplotlib")


def write_report(
    chapters: Sequence[Chapter],
    path: str | Path,
    *,
    title: str = "",
    lead: str = "",
    figures: str | Path | None = None,
    links: Mapping[str, str] | None = None,
) -> Path:
    """Write the report of one or more fits as one self-contained HTML file.

    Args:
        chapters: the fits.
        path: of the HTML file; it is written whole or not at all.
        title: of the page.
        lead: a paragraph above the chapters.
        figures: a folder to write the figures to as PNG files too.
        links: text -> address of pages to go on to.

    Returns:
        The path.
    """
    from probseq.report.plates import plates  # matplotlib, only where figures are drawn

    drawn = [draw(plates(chapter)) for chapter in chapters]
    if figures is not None:
        for chapter, pictures in zip(chapters, drawn, strict=True):
            stem = f"{slug(chapter.title)}-" if len(chapters) > 1 else ""
            for picture in pictures:
                write_whole(Path(figures) / f"{stem}{picture.plate.name}.png", picture.png)
    write_text(
        Path(path), render(list(zip(chapters, drawn, strict=True)), title or chapters[0].title, lead, links or {})
    )
    return Path(path)


def slug(text: str) -> str:
    """A title as part of a file name.

    >>> slug("New York: rain")
    'new-york-rain'
    """
    return "-".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


@dataclass(frozen=True, eq=False)
class _Picture:
    """A figure, drawn."""

    plate: Plate
    png: bytes

    @property
    def uri(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @property
    def width(self) -> int:
        """CSS pixels at which letters have the size of the page's own small print."""
        return round(100 * self.plate.figure.get_figwidth())


def draw(plates: Iterable[Plate]) -> list[_Picture]:
    """Figures as PNG."""
    pictures = []
    for plate in plates:
        buffer = io.BytesIO()
        plate.figure.savefig(buffer, format="png", dpi=170, metadata={"Software": None})
        pictures.append(_Picture(plate, buffer.getvalue()))
    return pictures


def page(template: str) -> Template:
    """A page to be filled in."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("probseq.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template)


def render(
    chapters: Sequence[tuple[Chapter, Sequence[_Picture]]], title: str, lead: str, links: Mapping[str, str]
) -> str:
    """The page as text."""
    told = [_chapter_context(chapter, pictures) for chapter, pictures in chapters]
    return page("report.html.j2").render(title=title, lead=lead, chapters=told, links=links, versions=versions())


def versions() -> str:
    """What the page was made with."""
    found = [f"probseq {probseq.__version__}", f"Python {platform.python_version()}"]
    for package in _VERSIONS:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _chapter_context(chapter: Chapter, pictures: Sequence[_Picture]) -> dict[str, Any]:
    from probseq.plots import state_colours

    fit, seen = chapter.fit, chapter.series.fingerprint()
    names = list(dict.fromkeys(name for row in chapter.rows for name in row.parameters))
    return {
        "title": chapter.title,
        "slug": slug(chapter.title),
        "period": chapter.period(),
        "summary": summary_sentence(chapter),
        "candidates": candidate_rows(chapter),
        "rows": chapter.rows,
        "share": say.share,
        "colours": state_colours(chapter.states),
        "parameters": names,
        "chart": next((picture for picture in pictures if picture.plate.name == "selection"), None),
        "pictures": [picture for picture in pictures if picture.plate.name != "selection"],
        "facts": {
            "data": f"{', '.join(fit.columns)}: {chapter.period()}",
            "method": f"{say.METHODS[fit.method]}, {chapter.objective_name} "
            f"{'maximised' if fit.sampling is None else 'sampled'}, seed {chapter.seed}, "
            f"{fit.seconds:.1f} s",
            "stopped": f"{'' if fit.converged else 'NOT converged: '}{fit.stop_reason}",
            "command": chapter.command,
            "data fingerprint (SHA-256)": seen if seen == fit.fingerprint else f"{seen}, fitted to {fit.fingerprint}",
        },
    }
