"""The report: whole, self-contained, and with the figures that make sense for its data."""

import base64
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from probseq import ModelError
from probseq.models.program import ProgramModel
from probseq.report import Chapter, write_report
from probseq.report.plates import plates

EXPECTED = {
    "rain": "selection series probabilities transitions emissions spells totals forecast search",
    "symbols": "series probabilities transitions emissions search",
    "counts": "series probabilities transitions emissions forecast search",
    "returns": "series probabilities transitions emissions forecast search",
    "vectors": "series search",
}


class Page(HTMLParser):
    """Collects what a page would load, its text, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.images: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.loads += [given[name] for name in ("src", "href", "data", "action", "srcset", "poster") if name in given]
        if tag == "img":
            assert given["alt"]
            self.images.append(given["src"])
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


@pytest.mark.parametrize("chapter", EXPECTED, indirect=True)
def test_page(chapter: Chapter, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["chapter"]
    path = write_report([chapter], tmp_path / "deep" / "report.html", figures=tmp_path / "figures")
    assert {file.stem for file in (tmp_path / "figures").iterdir()} == set(EXPECTED[name].split())
    text = path.read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.images) == len(EXPECTED[name].split())
    for image in page.images:
        raw = base64.b64decode(image.removeprefix("data:image/png;base64,"), validate=True)
        width, height = struct.unpack(">II", raw[16:24])
        assert raw.startswith(b"\x89PNG") and width > 400 and height > 200
    said = " ".join(" ".join(page.words).split())
    assert chapter.title in said and chapter.series.fingerprint() in said
    assert "How it was made" in said and "torch" in said


@pytest.mark.parametrize("chapter", ["rain"], indirect=True)
def test_the_page_opens_without_a_network(chapter: Chapter, tmp_path: Path) -> None:
    other = replace(chapter, title="Other")
    text = write_report([chapter, other], tmp_path / "report.html", title="Two").read_text()
    page = Page(text)
    assert [load for load in page.loads if not load.startswith(("data:image/png;base64,", "#"))] == []
    without_images = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//|url\(|@import|<script|<link|<iframe", without_images)
    assert "#other" in page.loads and 'id="other"' in text


@pytest.mark.parametrize("chapter", ["rain"], indirect=True)
def test_the_page_says_what_was_chosen_and_why(chapter: Chapter, tmp_path: Path) -> None:
    text = write_report([chapter], tmp_path / "report.html").read_text()
    said = " ".join(" ".join(Page(text).words).split())
    assert "BIC chooses 2" in said
    assert f"{chapter.fit.bic:,.1f}" in said and "A state collapsed." in said
    assert "dry spell : 3% wet days, 0.4 mm on a wet day, mean stay 10 days" in said
    assert "7 days without a measurement (white ticks on the band) are not filled in" in said
    assert "probseq fit 'rain.csv'" in said and "seed 4" in said
    assert "<here>" not in text and "Rain &lt;here&gt; &amp; there" in text  # what users write is escaped


@pytest.mark.parametrize("chapter", ["rain"], indirect=True)
def test_a_fit_that_did_not_converge_says_so(chapter: Chapter, tmp_path: Path) -> None:
    unfinished = replace(chapter, fit=replace(chapter.fit, converged=False, stop_reason="max_iterations = 3 reached"))
    text = write_report([unfinished], tmp_path / "report.html").read_text()
    assert "did not converge (max_iterations = 3 reached)" in text and "NOT converged" in text


@pytest.mark.parametrize("chapter", ["rain"], indirect=True)
def test_other_data_than_the_fits_are_named(chapter: Chapter, tmp_path: Path) -> None:
    later = replace(chapter, series=chapter.series.split(-100)[1])
    text = write_report([later], tmp_path / "report.html").read_text()
    assert f"fitted to {chapter.fit.fingerprint}" in text
    assert "Monthly totals" not in text  # a hundred days are no climate


@pytest.mark.parametrize("chapter", ["symbols"], indirect=True)
def test_long_sequences_are_seen_whole_and_many_in_part(chapter: Chapter) -> None:
    series = next(plate for plate in plates(chapter) if plate.name == "series")
    assert "Share of C+G in windows of" in series.caption
    assert len(series.figure.axes) == 2


@pytest.mark.parametrize("chapter", ["returns"], indirect=True)
def test_a_long_series_is_cut_into_panels(chapter: Chapter) -> None:
    series = next(plate for plate in plates(chapter) if plate.name == "series")
    assert len(series.figure.axes) == 2
    limits = {axes.get_ylim() for axes in series.figure.axes}
    assert len(limits) == 1  # panels share their scale


@pytest.mark.parametrize("chapter", ["counts"], indirect=True)
def test_a_program_of_ones_own_has_no_report(chapter: Chapter) -> None:
    with pytest.raises(ModelError, match="A report must be of an HMM"):
        replace(chapter, fit=replace(chapter.fit, model=ProgramModel(lambda series: None)))


@pytest.mark.parametrize("chapter", ["rain"], indirect=True)
def test_candidates_of_one_are_no_selection(chapter: Chapter) -> None:
    alone = replace(chapter, candidates=pd.DataFrame(chapter.candidates).iloc[1:2])
    assert "selection" not in {plate.name for plate in plates(alone)}
