"""What do you see? A network that says which two handwritten digits stand where, of pairs it was never told of.

A small convolutional network reads the picture, a recurrent one writes the sentence (Vinyals et al. 2015; Karpathy &
Fei-Fei 2015). The digits are those of scikit-learn (pip install scikit-learn), 1,797 real ones of 8 x 8 pixels. Some
pairs are left out of training, and digits of tests are others than those of training. Takes about two minutes;
PROBSEQ_QUICK=1 learns next to nothing in seconds.
"""

import os
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from probseq import Captioner, Pairs, Sequences, plots, train
from probseq.models import Beam

QUICK = "PROBSEQ_QUICK" in os.environ
SIDE = 20
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = tuple(sorted({"a", "above", "left", "of", *NUMBERS}))
PAIRS = np.array([(one, row, two) for one in range(10) for row in (0, 1) for two in range(10)])
LEFT_OUT = (PAIRS[:, 2] - PAIRS[:, 0]) % 10 == 3 + 3 * PAIRS[:, 1]
"""(200,) bool: "a zero above a three" and "a one left of a seven" are among the twenty that training never shows."""


def say(first: int, row: int, second: int) -> str:
    """The sentence for two digits, one above the other or in a row."""
    return f"a {NUMBERS[first]} {'left of' if row else 'above'} a {NUMBERS[second]}"


def scenes(pairs: np.ndarray, count: int, digits: slice, rng: np.random.Generator) -> tuple[Pairs, list[str]]:
    """Pictures (count, 1, 20, 20) of pairs in turn, made of some of the digits, with their sentences."""
    images, numbers = load_digits(return_X_y=True)
    images, numbers = images[digits].reshape(-1, 8, 8) / 16, numbers[digits]
    drawn = rng.permutation(np.resize(rng.permutation(pairs), (count, 3)))
    pictures = np.zeros((count, 1, SIDE, SIDE))
    for picture, (first, row, second) in zip(pictures, drawn, strict=True):
        near, far, across = rng.integers(0, 4), rng.integers(9, 13), rng.integers(0, 13)
        for digit, along in ((first, near), (second, far)):
            y, x = (across, along) if row else (along, across)
            picture[0, y : y + 8, x : x + 8] += images[rng.choice(np.flatnonzero(numbers == digit))]
    told = [say(*one) for one in drawn]
    words = Sequences.from_text(text="\n".join(told), level="word", separator="\n", categories=WORDS)
    return Pairs(torch.from_numpy(pictures).float(), words), told


def main() -> None:
    rng = np.random.default_rng(0)
    known, _ = scenes(PAIRS[~LEFT_OUT], 200 if QUICK else 8000, slice(0, 1200), rng)
    chosen, _ = scenes(PAIRS[~LEFT_OUT], 50 if QUICK else 400, slice(1200, 1300), rng)
    seen, seen_told = scenes(PAIRS[~LEFT_OUT], 50 if QUICK else 500, slice(1300, 1797), rng)
    new, new_told = scenes(PAIRS[LEFT_OUT], 50 if QUICK else 500, slice(1300, 1797), rng)

    network = Captioner.of(known, enters=("input", "state"), dropout=0.3)
    fit = train(
        network,
        known,
        validation=chosen,
        epochs=1 if QUICK else 16,
        batch_size=64,
        learning_rate=2e-3,
        halve_after=2,
        patience=None,
    )
    print(f"{fit.n_parameters:,} weights, {fit.seconds:.0f} s, best epoch {fit.best_epoch}: {fit.stop_reason}")

    for name, data, told in (("pairs of training, other digits", seen, seen_told), ("pairs left out", new, new_told)):
        said = fit.network.describe(data.inputs)
        exact = np.mean([one == other for one, other in zip(said, told, strict=True)])
        words = float((data.targets.lengths + 1).sum())
        print(f"{name}: {exact:.1%} exact, {-float(fit.log_prob(data).sum()) / words:.3f} nats a word")

    print(f"\nthe first new picture is of {new_told[0]}; the likeliest sentences and their probabilities:")
    (best,) = fit.network.hypotheses(new.inputs[:1], Beam(width=4, best=3, longest=8))
    for one in best:
        print(f"  {np.exp(one.log_prob):.4f}  {fit.network.vocabulary.text(one.codes)}")

    figure, axes = plots.figure(9.0, 3.8, rows=2, columns=5)
    for axis, picture, told, said in zip(
        axes.flat, new.inputs, new_told, fit.network.describe(new.inputs), strict=False
    ):
        plots.told_image(axis, picture[0].numpy(), said, told)
    figure.savefig(Path("described_images.png"))
    print("described_images.png: ten pictures of pairs left out, with what is said of them")


if __name__ == "__main__":
    main()
