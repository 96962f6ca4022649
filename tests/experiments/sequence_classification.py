"""Who spoke, and what was done: whole sequences classified by vanilla, LSTM and bidirectional networks.

    python -m tests.experiments.sequence_classification FOLDER [NAME [NETWORK]]

FOLDER holds japanese_vowels_train.csv and japanese_vowels_test.csv (Kudo, Toyama & Shimbo 1999: 12 cepstral
coefficients of 7 to 29 frames of one vowel pair, nine speakers, 270 utterances to learn from and 370 to test) and the
same of basic_motions (Bagnall et al. 2018: six columns of a watch's accelerometer and gyroscope, 100 steps, four
activities, 40 and 40). Neither is shipped. NAME is one of the two, both where none is given.

Pooling, dropout and the number of epochs are chosen for each network on parts of the training data alone: of three
random thirds, stratified by class, each is held out once, and the setting of least mean held-out loss is taken. Then
the network is trained anew on all training data, once for each of five seeds, and only then looks at the test data. An
ensemble averages the probabilities of its five seeds.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from probseq import Pairs, SequenceClassifier, Sequences, train

LABELS = {"japanese_vowels": ("speaker", "frame"), "basic_motions": ("activity", "t")}
NETWORKS: dict[str, dict[str, Any]] = {
    "vanilla": {"cell": "vanilla", "hidden_size": 64},
    "lstm": {"cell": "lstm", "hidden_size": 64},
    "bidirectional": {"cell": "lstm", "hidden_size": 48, "bidirectional": True},
}
SETTINGS = tuple({"pooling": pooling, "dropout": dropout} for pooling in ("last", "mean") for dropout in (0.0, 0.5))
SEEDS = (1, 2, 3, 4, 5)
EPOCHS = 60


@dataclass(frozen=True)
class Result:
    """One network on one set of data.

    Args:
        data: its name.
        network: its name.
        setting: pooling and dropout that were chosen.
        epochs: that were chosen.
        held_out: the share of training sequences that were right when they were held out.
        accuracies: on the test data, of each seed.
        ensemble: accuracy of the mean probabilities of all seeds.
        seconds: of the trainings on all data together.
    """

    data: str
    network: str
    setting: dict[str, Any]
    epochs: int
    held_out: float
    accuracies: list[float]
    ensemble: float
    seconds: float


def read(folder: Path, name: str, part: str, classes: tuple[str, ...] | None = None) -> Pairs:
    """Sequences and their classes."""
    label, time = LABELS[name]
    frame = pd.read_csv(folder / f"{name}_{part}.csv")
    columns = [column for column in frame.columns if column.startswith("c") and column[1:].isdigit()]
    series = Sequences.from_frame(frame, columns, time=time, group="seq")
    names = frame.groupby("seq")[label].first().loc[series.ids].astype(str)
    classes = classes or tuple(sorted(names.unique()))
    return Pairs(series, torch.tensor([classes.index(one) for one in names]), classes)


def thirds(pairs: Pairs) -> list[np.ndarray]:
    """Three parts of the pairs with as many of every class in each, at random."""
    generator, parts = np.random.default_rng(0), [[], [], []]
    codes = np.asarray(pairs.targets)
    for code in np.unique(codes):
        for k, piece in enumerate(np.array_split(generator.permutation(np.flatnonzero(codes == code)), 3)):
            parts[k].append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]


def accuracy(probabilities: np.ndarray, pairs: Pairs) -> float:
    """The share of sequences whose most probable class is theirs."""
    return float((probabilities.argmax(1) == np.asarray(pairs.targets)).mean())


def choose(network: str, pairs: Pairs) -> tuple[dict[str, Any], int, float]:
    """The setting and epochs of least held-out loss, and the share that was right there."""
    found = []
    for setting in SETTINGS:
        losses, right = [], 0.0
        for part in thirds(pairs):
            kept = pairs.take(np.setdiff1d(np.arange(pairs.count), part))
            held = pairs.take(part)
            start = SequenceClassifier.for_pairs(kept, **NETWORKS[network], **setting, seed=0)
            fit = fitted(start, kept, EPOCHS, 0, validation=held)
            losses.append(fit.curves["validation"].to_numpy())
            right += accuracy(fit.network.predict_proba(held).to_numpy(), held) * held.count / pairs.count  # type: ignore
        loss = np.mean(losses, axis=0)
        found.append((float(loss.min()), int(loss.argmin()) + 1, right, setting))
    _, epochs, right, setting = min(found, key=lambda one: one[0])
    return setting, epochs, right


def fitted(start: SequenceClassifier, pairs: Pairs, epochs: int, seed: int, validation: Pairs | None = None) -> Any:
    """A training of so many epochs."""
    size = 32 if pairs.count > 100 else 8
    how = {"epochs": epochs, "batch_size": size, "learning_rate": 5e-3, "patience": None, "seed": seed}
    return train(start, pairs, validation=validation, **how)


def measure(folder: Path, name: str, network: str) -> Result:
    """Choose on the training data, train, and look at the test data."""
    pairs = read(folder, name, "train")
    setting, epochs, held_out = choose(network, pairs)
    test = read(folder, name, "test", pairs.classes)
    probabilities, seconds = [], 0.0
    for seed in SEEDS:
        start = SequenceClassifier.for_pairs(pairs, **NETWORKS[network], **setting, seed=100 * seed)
        fit = fitted(start, pairs, epochs, seed)
        probabilities.append(fit.network.predict_proba(test).to_numpy())
        seconds += fit.seconds
    accuracies = [accuracy(one, test) for one in probabilities]
    ensemble = accuracy(np.mean(probabilities, axis=0), test)
    return Result(name, network, setting, epochs, held_out, accuracies, ensemble, seconds)


def as_markdown(results: list[Result]) -> str:
    """A row for each network."""
    lines = [
        "| data | network | chosen | held out | test: mean of 5 seeds | lowest to highest | ensemble |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        how = f"{one.setting['pooling']}, {one.setting['dropout']:g}, {one.epochs}"
        spread = f"{min(one.accuracies):.1%} to {max(one.accuracies):.1%}"
        mean = f"{np.mean(one.accuracies):.1%} +- {np.std(one.accuracies, ddof=1):.1%}"
        lines.append(
            f"| {one.data} | {one.network} | {how} | {one.held_out:.1%} | {mean} | {spread} | {one.ensemble:.1%} |"
        )
    return "\n".join(lines)


def main(folder: Path, data: str = "", only: str = "") -> None:
    results = []
    for name in [data] if data else LABELS:
        for network in [only] if only else NETWORKS:
            results.append(measure(folder, name, network))
            print(json.dumps(asdict(results[-1])), flush=True)
    print(as_markdown(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
