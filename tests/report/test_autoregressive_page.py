"""The report of a model whose observations depend on those before them."""

from __future__ import annotations

from probseq import HMM, datasets, em, families
from probseq.chains import StationaryInitial
from probseq.report import Chapter, write_report


def test_a_page_without_densities_and_with_a_simulated_forecast(tmp_path):
    growth = datasets.gnp()
    model = HMM(2, families.DeviationAutoregression(1), initial=StationaryInitial())
    fit = em(model, growth, restarts=1, tolerance=1e-6)
    page = write_report([Chapter("Growth", fit, growth)], tmp_path / "report.html").read_text()
    assert "simulated predictive distribution" in page and "What each state emits" not in page
