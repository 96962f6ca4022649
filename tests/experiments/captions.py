"""Captions of scenes of two handwritten digits, beside retrieval: compositions and images that were never seen.

    python -m tests.experiments.captions FOLDER [WAY ...]

WAY is how the image enters the decoder, of `WAYS`; each takes about a minute of one core, and its numbers are added to
FOLDER/captions.json, from which captions.md is written; some of its captions are drawn in captions-WAY.png. The best
epoch is chosen on 20 compositions that are neither trained on nor tested.

Retrieval gives the sentence of the nearest training image, by pixels or by what the trained encoder makes of them. It
can never say a held-out composition, so it is also judged on seen compositions of unseen digits, and by slot: the share
of first digits, relations and second digits that are right, for which any training image with that digit serves.

Measured, shares of 800 scenes each:

    held out: exact, digits           seen: exact, digits
    input-state  0.759  0.907, 0.848        0.934  0.960, 0.971
    by pixels    0      0.333, 0.320        0.144  0.425, 0.432
    by features  0      0.531, 0.471        0.938  0.966, 0.971     of input-state
    first-state  0.499  0.814, 0.662        0.902  0.941, 0.951

A vector that is read again beside every word generalises to new pairs better than one that must be remembered.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from probseq import Captioner, NetworkFit, Pairs, plots, train
from tests.experiments.digit_scenes import CHOOSING, HELD_OUT, SEEN, draw, scenes, sentence

WAYS = {
    "first": ("first",),
    "state": ("state",),
    "first-state": ("first", "state"),
    "input-state": ("input", "state"),
}
"""x_{-1} (Vinyals et al. 2015), h_0 (Karpathy & Fei-Fei 2015), both, or h_0 and a part of every input."""


def data(train_scenes: int = 8000, test_scenes: int = 800) -> dict[str, tuple[np.ndarray, Pairs]]:
    """Compositions and scenes: to learn from, to choose by, and to be tested on."""
    rng = np.random.default_rng(0)
    parts = {}
    for seed, (name, compositions, images, count) in enumerate(
        (
            ("train", SEEN, "train", train_scenes),
            ("validation", CHOOSING, "validation", test_scenes // 2),
            ("held out", HELD_OUT, "test", test_scenes),
            ("seen", SEEN, "test", test_scenes),
        )
    ):
        drawn = draw(compositions, count, rng)
        parts[name] = drawn, scenes(drawn, images, seed)
    return parts


def learn(parts: dict[str, tuple[np.ndarray, Pairs]], way: str = "input-state", epochs: int = 16) -> NetworkFit:
    """The captioning network with the weights of the best epoch."""
    pairs = parts["train"][1]
    network = Captioner.of(pairs, enters=WAYS[way], dropout=0.3)
    return train(
        network,
        pairs,
        validation=parts["validation"][1],
        epochs=epochs,
        batch_size=64,
        learning_rate=2e-3,
        anneal=True,
        patience=None,
    )


def slots(said: str) -> tuple[str, str, str]:
    """What a caption says is first, how they stand, and what is second; empty where it does not say so."""
    words = said.split()
    if len(words) < 5 or words[0] != "a" or words[-2] != "a":
        return "", "", ""
    return words[1], " ".join(words[2:-2]), words[-1]


def judged(said: list[str], compositions: np.ndarray) -> dict[str, float]:
    """Shares of captions that are exact, and of slots that are right."""
    true = [sentence(one) for one in compositions]
    right = np.array(
        [[a == b for a, b in zip(slots(x), slots(y), strict=True)] for x, y in zip(said, true, strict=True)]
    )
    first, relation, second = right.mean(0)
    exact = float(np.mean([x == y for x, y in zip(said, true, strict=True)]))
    return {"exact": exact, "first digit": first, "relation": relation, "second digit": second}


def nearest(queries: Tensor, known: Tensor, sentences: np.ndarray) -> list[str]:
    """The caption of the known vector nearest to each query, (Q, D) and (K, D), by Euclidean distance."""
    found = [torch.cdist(part, known).argmin(1) for part in queries.flatten(1).split(200)]
    return [sentence(one) for one in sentences[torch.cat(found).numpy()]]


def table(fit: NetworkFit, parts: dict[str, tuple[np.ndarray, Pairs]], way: str) -> pd.DataFrame:
    """A row for each describer and test, with its shares."""
    network = fit.network
    assert isinstance(network, Captioner)
    compositions, pairs = parts["train"]
    network.eval()
    with torch.no_grad():
        features = torch.cat([network.vectors(part) for part in pairs.inputs.split(500)])  # type: ignore[union-attr]
    rows = []
    for test in ("held out", "seen"):
        truth, scene = parts[test]
        with torch.no_grad():
            seen = network.vectors(scene.inputs)  # type: ignore[arg-type]
        for describer, said in (
            (f"network, {way}", network.describe(scene.inputs)),
            ("nearest by pixels", nearest(scene.inputs, pairs.inputs.flatten(1), compositions)),  # type: ignore
            (f"nearest by features, {way}", nearest(seen, features, compositions)),
        ):
            rows.append({"compositions": test, "describer": describer, **judged(said, truth)})
    return pd.DataFrame(rows)


def as_markdown(rows: pd.DataFrame) -> str:
    """The table for a page, numbers with three digits."""
    cells = [[_cell(value) for value in row] for row in rows.to_numpy().tolist()]
    lines = [list(map(str, rows.columns)), ["---"] * len(rows.columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else "-" if np.isnan(value) else f"{value:.3f}"


def grid(network: Captioner, compositions: np.ndarray, pairs: Pairs, path: Path, columns: int = 6) -> None:
    """Draw the first scenes with what is said of them; the truth stands below what is wrong."""
    figure, axes = plots.figure(9.0, 6.2, rows=3, columns=columns)
    figure.get_layout_engine().set(h_pad=0.15)  # type: ignore[union-attr]
    said = network.describe(pairs.inputs[: axes.size])  # type: ignore[index]
    for axis, image, words, truth in zip(axes.flat, pairs.inputs, said, compositions, strict=False):  # type: ignore
        plots.told_image(axis, image[0].numpy(), words, sentence(truth))
    figure.savefig(path)


def main(folder: Path, ways: list[str]) -> None:
    parts, kept = data(), folder / "captions.json"
    folder.mkdir(parents=True, exist_ok=True)
    for way in ways:
        fit = learn(parts, way)
        found = table(fit, parts, way)
        old = pd.read_json(kept, orient="records") if kept.exists() else found.iloc[:0]
        rows = pd.concat([old, found]).drop_duplicates(["compositions", "describer"], keep="last")
        rows = rows.sort_values(["compositions", "exact"], ascending=[True, False])
        kept.write_text(json.dumps(rows.to_dict("records"), indent=1))
        (folder / "captions.md").write_text(as_markdown(rows) + "\n")
        assert isinstance(fit.network, Captioner)
        grid(fit.network, *parts["held out"], folder / f"captions-{way}.png")
        fit.save(folder / f"captioner-{way}")
        print(f"{way}: {fit.seconds:.0f} s, best epoch {fit.best_epoch}\n{as_markdown(found)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ["input-state"])
