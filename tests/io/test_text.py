"""Text as symbols: characters, words, rare words, and more words than a byte can number."""

from __future__ import annotations

import pytest
import torch

from probseq import DataError, MarkovModel, ModelError, Sequences
from probseq.models import KneserNey


def test_words_beyond_256_have_wider_codes():
    words = [f"w{number}" for number in range(700)]
    series = Sequences.from_text(text=" ".join(words * 3), level="word")
    assert series.values.dtype == torch.int32 and len(series.categories or ()) == 700
    fit = MarkovModel(2, smoothing=KneserNey()).fit(series)
    assert fit.next_symbol(["w5", "w6"]).argmax() == (series.categories or ()).index("w7")
    assert fit.generate(3, seed=0, start=["w5", "w6"]).split()[0] == "w7"
    assert series.to_frame()["word"].iloc[701] == "w1"
    with pytest.raises(ModelError, match="an answer about all contexts"):
        _ = fit.transition
    table_free = fit.predictive_log_prob(series)
    assert table_free[2:].exp().min() > 0.1
    share = fit.forecast(series, 1).iloc[0]
    assert share.idxmax() == "p(w0)" and share.sum() == pytest.approx(1.0)


def test_text_by_lines_words_and_rare_words():
    series = Sequences.from_text(
        text="One fish, two fish.\n\nIt's red-hot fish\n", level="word", separator="\n", rare=2
    )
    assert series.lengths.tolist() == [6, 3]
    assert series.categories == ("fish", "<rare>")
    again = Sequences.from_text(text="fish eats worm", level="word", categories=series.categories)
    assert again.values.tolist() == [0, 1, 1]
    unknown = Sequences.from_text(text="abz", categories=("a", "b"))
    assert unknown.step_observed.tolist() == [True, True, False]


def test_a_text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("añb\n")
    assert Sequences.from_text(path).categories == ("\n", "a", "b", "ñ")
    for bad in ({}, {"path": path, "text": "a"}, {"path": path, "level": "line"}, {"text": ""}):
        with pytest.raises(DataError):
            Sequences.from_text(**bad)
    with pytest.raises(DataError, match="none of 1 categories"):
        Sequences.from_text(path, categories=["z"])
