"""A network of letters beside Markov chains on the same held-out characters."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from tests.experiments import characters
from tests.experiments.characters import END, Verses, markov_bits, network_bits, samples, train_network

TEXT = """Genesis 1

  1 In the beginning God created
the heaven.
  2 And the earth was
void.

Genesis 2

  1 Thus the heavens.
"""


def test_verses_are_read_without_their_numbers_and_dealt_out_once(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT * 20)
    verses = Verses.read(file)
    assert verses.held_out[0] == "In the beginning God created the heaven." and "Genesis" not in verses.training
    parts = (verses.training, verses.validation, verses.held_out)
    assert sum(map(len, parts)) == 60 and [len(part) for part in parts[1:]] == [2, 3]
    series = verses.framed(["Thus."], 2)
    assert "".join(series.categories[code] for code in series.values.tolist()) == f"{END}{END}Thus.{END}"  # type: ignore[index]


def test_every_model_is_scored_on_the_same_characters(tmp_path: Path) -> None:
    """A chain of order 0 knows no more than the shares of characters, ends among them: bits by hand."""
    verses = Verses(["ab", "ab"], ["ab"], ["b"], ("a", "b"))
    found = markov_bits(verses, range(0, 1))["Witten-Bell"][0]
    seen = 6 / (6 + 3)  # Witten-Bell: 2 of each of 3 symbols, 3 / (6 + 3) shared evenly
    assert found == pytest.approx(-math.log2(seen / 3 + (1 - seen) / 3))


@pytest.mark.slow
def test_the_experiment_goes_on_in_pieces_and_writes_what_it_found(tmp_path: Path, monkeypatch, capsys) -> None:
    file = tmp_path / "text.txt"
    file.write_text(TEXT * 14)
    monkeypatch.setattr(characters, "OPTIONS", {**characters.OPTIONS, "epochs": 2})
    monkeypatch.setattr(characters, "HIDDEN", 8)
    monkeypatch.setattr(sys, "argv", ["characters", str(file), str(tmp_path / "run"), "0.0"])
    characters.main()
    assert "time limit" in capsys.readouterr().out and not (tmp_path / "run" / "characters.json").exists()
    monkeypatch.setattr(sys, "argv", ["characters", str(file), str(tmp_path / "run")])
    characters.main()
    found = json.loads((tmp_path / "run" / "characters.json").read_text())
    assert len(found["network"]["validation"]) == 2 and found["network"]["bits"] > 0.0 and len(found["samples"]) == 8
    assert set(found["markov"]["Kneser-Ney"]) == {str(order) for order in range(1, 7)}
    assert "It writes" in (tmp_path / "run" / "characters.md").read_text()
    assert (tmp_path / "run" / "characters.png").exists()


@pytest.mark.slow
def test_a_small_network_beats_the_chains_of_order_one_to_three(shared_data) -> None:
    """Two minutes."""
    verses = Verses.read(shared_data("kjv_bible.txt"))
    fit = train_network(verses, hidden=128, epochs=6)
    chains = markov_bits(verses, range(1, 4))["Kneser-Ney"]
    print(chains, network_bits(fit, verses), samples(fit, verses.letters))
    assert network_bits(fit, verses) < min(chains.values())
