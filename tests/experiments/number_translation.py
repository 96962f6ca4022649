"""English number words to French: exact match on held-out numbers, and what reading backwards is worth.

    python -m tests.experiments.number_translation RESULTS.json [MINUTES]

Numbers from 0 to 999,999 as num2words writes them, hyphens as symbols of their own ("vingt - deux"), so that a
translation is right only if it is the French text letter for letter. For each seed numbers are drawn anew without
replacement: some to learn from, 500 to choose the best epoch by and 2,000 to test on. An LSTM encoder-decoder without
attention (one layer of 128, embeddings of 32; Sutskever, Vinyals & Le 2014) sees 1,250 batches of 64 whatever the
number of pairs is. Source read backwards or forwards: same numbers, same first weights, same batches, so that the
difference is paired by seed. Runs that RESULTS.json holds are not run again; no run is begun after MINUTES.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from probseq import Pairs, SequenceToSequence, read_parallel, train
from probseq.models import Beam, Greedy

NUMBERS, VALIDATION, TEST = 1_000_000, 500, 2_000
SIZES, SEEDS = (5_000, 1_000), range(5)
UPDATES, BATCH = 1_250, 64


def spoken(number: int, language: str) -> str:
    """A number in words, hyphens apart."""
    from num2words import num2words

    return num2words(number, lang=language).replace("-", " - ")


def corpus(size: int, seed: int) -> tuple[Pairs, Pairs, list[tuple[str, str]]]:
    """Pairs to learn from and to choose the epoch by, and pairs of text to test on; no number twice."""
    numbers = np.random.default_rng(seed).choice(NUMBERS, TEST + VALIDATION + size, replace=False).tolist()
    lines = [(spoken(number, "en"), spoken(number, "fr")) for number in numbers]
    known = read_parallel(text="\n".join("\t".join(line) for line in lines[TEST:]))
    return known.take(slice(VALIDATION, None)), known.take(slice(VALIDATION)), lines[:TEST]


def measure(size: int, seed: int, reverse: bool, attention: bool = False) -> dict[str, Any]:
    """One network trained and tested."""
    learned, validation, test = corpus(size, seed)
    network = SequenceToSequence.of(
        learned, hidden_size=128, embedding_size=32, reverse=reverse, attention=attention, seed=seed
    )
    epochs = round(UPDATES * BATCH / size)
    options: dict[str, Any] = {"learning_rate": 3e-3, "batch_size": BATCH, "patience": None, "bucketed": True}
    fit = train(network, learned, validation=validation, epochs=epochs, seed=seed, **options)
    found = {"size": size, "seed": seed, "reverse": reverse, "attention": attention, "seconds": fit.seconds}
    sources, targets = [source for source, _ in test], np.array([target for _, target in test])
    for name, search in (("greedy", Greedy(60)), ("beam of 5", Beam(5, longest=60))):
        translated = fit.network.translate(sources, search)  # type: ignore[operator]
        found[name] = float((translated["translation"].to_numpy() == targets).mean())
    best = fit.curves.set_index("epoch").loc[fit.best_epoch]
    return found | {"validation": float(best["validation"]), "best_epoch": fit.best_epoch}


def summarise(results: list[dict[str, Any]], search: str = "greedy") -> pd.DataFrame:
    """A row for each number of pairs: exact match, mean and standard deviation over seeds, backwards and forwards; the
    mean difference of the seeds that have both, its standard error, and its t."""
    rows = {}
    for size, part in pd.DataFrame(results).query("not attention").groupby("size"):
        both = part.pivot(index="seed", columns="reverse", values=search).dropna() * 100
        backwards, forwards = both[True], both[False]
        difference = backwards - forwards
        error = difference.std() / np.sqrt(len(both))
        rows[size] = {
            "seeds": len(both),
            "backwards, %": backwards.mean(),
            "sd": backwards.std(),
            "least": backwards.min(),
            "forwards, %": forwards.mean(),
            "sd ": forwards.std(),
            "difference": difference.mean(),
            "standard error": error,
            "t": difference.mean() / error,
        }
    return pd.DataFrame(rows).T.rename_axis("pairs")


def main(place: Path, minutes: float) -> None:
    torch.set_num_threads(1)
    results: list[dict[str, Any]] = json.loads(place.read_text()) if place.exists() else []
    done, start = {(one["size"], one["seed"], one["reverse"]) for one in results}, time.monotonic()
    for seed, size, reverse in itertools.product(SEEDS, SIZES, (True, False)):
        key = size, seed, reverse
        if key not in done and time.monotonic() - start < 60 * minutes:
            results.append(measure(*key))
            place.write_text(json.dumps(results, indent=1) + "\n")
    for search in ("greedy", "beam of 5"):
        print(f"{search}\n{summarise(results, search).round(2).to_string()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else np.inf)
