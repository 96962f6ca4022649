"""Phrase states over several first weights: who acts sets them apart, voice hardly does."""

from __future__ import annotations

import runpy
from pathlib import Path

import pandas as pd
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "phrase_states.py"


@pytest.mark.slow
def test_word_order_separates_and_voice_does_not() -> None:
    """Two minutes. Shares of the variance among unseen sentences of the same verb and names, mean and standard
    deviation over five networks: who acts 0.837 (0.040), voice 0.084 (0.025); untrained 0.027 and 0.324; of a bag of
    words 0 and 1.
    """
    example = runpy.run_path(str(EXAMPLE))
    table = example["grammar"]()
    found = {}
    for seed in range(5):
        fresh, network = example["learn"](table, seed, epochs=300)
        found[seed] = example["measured"](table, fresh, network)
        assert example["exact"](network, table[table["unseen"]]) >= 0.95
    shares = pd.concat(found, names=["seed", "of"])
    print(shares.round(3), shares.groupby("of").agg(["mean", "std"]).round(3), sep="\n")
    unseen, untrained = (shares.xs(name, level="of") for name in ("trained, unseen scenes", "untrained"))
    assert (unseen["who acts"] > 2 * unseen["voice"]).all()
    assert unseen["who acts"].mean() > 4 * unseen["voice"].mean()
    assert (untrained["who acts"] < untrained["voice"]).all()
