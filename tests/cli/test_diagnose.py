"""`probseq diagnose`: verdicts, the page, JSON, and what it refuses."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from probseq import datasets

EARTHQUAKES = datasets.path("earthquakes")
SECTIONS = ["parameters", "residuals", "checks", "states"]


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "section":
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.links.append(str(found["href"]))
        if tag == "img":
            assert str(found["src"]).startswith("data:image/png") and found["alt"]
            self.images += 1


def test_a_maximum_is_diagnosed_on_a_page(run: Callable, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "diagnosis.html"
    done = run("diagnose", saved, EARTHQUAKES, "--replicates", "40", "--out", out)
    assert (done.code, done.err) == (0, "")
    assert "How sure are the parameters?" in done.out and "observed information" in done.out
    page = Page()
    page.feed(out.read_text())
    assert page.ids == SECTIONS
    assert page.links == [f"#{name}" for name in SECTIONS]
    assert page.images == 3


def test_json_holds_every_table(run: Callable, saved: Path) -> None:
    found = json.loads(run("diagnose", saved, EARTHQUAKES, "--replicates", "40", "--json").out)
    assert list(found) == SECTIONS
    rates = {row["parameter"]: row for row in found["parameters"]["table"]}
    assert rates["rate[0]"]["lower"] < rates["rate[0]"]["estimate"] < rates["rate[0]"]["upper"]
    assert {row["test"] for row in found["residuals"]["table"]} >= {"Kolmogorov-Smirnov", "Ljung-Box"}


def test_draws_are_diagnosed_with_their_chains_and_left_out_steps(run: Callable, tmp_path: Path) -> None:
    fit = ("fit", EARTHQUAKES, "--column", "count", "--time", "year", "--family", "poisson", "--states", "2")
    assert run(*fit, "--method", "gibbs", "--draws", "200", "--chains", "2", "--out", tmp_path / "fit").code == 0
    found = json.loads(run("diagnose", tmp_path / "fit", EARTHQUAKES, "--replicates", "40", "--json").out)
    assert list(found) == ["chains", *SECTIONS, "left_out"]
    assert "PSIS-LOO" in found["left_out"]["verdict"]
    assert -360 < found["left_out"]["table"][0]["elpd"] < -330  # the log-likelihood at the maximum is -341.9


def test_a_question_without_an_answer_says_why(run: Callable, tmp_path: Path) -> None:
    """A point of svi is no maximum of a likelihood, nor a posterior."""
    fit = ("fit", EARTHQUAKES, "--column", "count", "--time", "year", "--family", "poisson", "--states", "1")
    assert run(*fit, "--method", "svi", "--restarts", "1", "--out", tmp_path / "fit").code == 0
    found = json.loads(run("diagnose", tmp_path / "fit", EARTHQUAKES, "--replicates", "40", "--json").out)
    assert list(found) == ["parameters", "residuals", "checks"]
    assert found["residuals"]["trouble"]  # earthquakes are no sequence of independent Poisson counts


@pytest.mark.parametrize("options", [("--replicates", "3"), ("--out", EARTHQUAKES / "page.html")])
def test_bad_options_are_one_line(run: Callable, saved: Path, options: tuple[str, object]) -> None:
    done = run("diagnose", saved, EARTHQUAKES, *options)
    assert done.code == 2 and done.err.count("\n") == 1 and done.out == ""


def test_a_report_links_its_diagnosis(run: Callable, saved: Path, tmp_path: Path) -> None:
    done = run("report", saved, EARTHQUAKES, "--diagnosis", "--out", tmp_path / "quakes.html")
    assert (done.code, done.err) == (0, "")
    page = Page()
    page.feed((tmp_path / "quakes.html").read_text())
    assert page.links == ["quakes-diagnosis.html"]
    assert "How sure are the parameters?" in (tmp_path / "quakes-diagnosis.html").read_text()
