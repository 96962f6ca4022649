"""Scenes, videos and tracks made of real handwritten digits, with what is to be said of them.

The pixels are scikit-learn's digits (Alpaydin & Kaynak 1998: 1,797 images of 8 x 8 by 43 people). They were chosen for
three reasons: they ship with a package that the tests install, so nothing is fetched; they are handwriting rather than
drawings, so a test image is one that no model has seen, where an emoji would be the same one again; and at 8 x 8 a
network learns them in a minute on one core.

A scene shows two digits, "a seven above a three" or "a two left of a nine": 200 compositions. Digit images are split in
the order of the file (1,200 for training, 100 for validation, 497 for tests), and so are compositions: 140 are SEEN in
training, 20 others choose the best epoch and whatever else is chosen (CHOOSING), and 40 are HELD_OUT, in which every
digit stands four times in each place. A test shows pairs that were never described, of images that were never seen.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits

from probseq import Pairs, Sequences

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RELATIONS = ("above", "left of")
VOCABULARY = tuple(sorted({"a", "above", "left", "of", *NUMBERS}))
SIDE = 20
"""Pixels of a canvas, each way."""
DIGIT = 8
"""Pixels of a digit, each way."""
IMAGES = {"train": slice(0, 1200), "validation": slice(1200, 1300), "test": slice(1300, 1797)}

COMPOSITIONS = np.array([(one, relation, two) for one in range(10) for relation in (0, 1) for two in range(10)])
_STEP = (COMPOSITIONS[:, 2] - COMPOSITIONS[:, 0]) % 10
_ABOVE = COMPOSITIONS[:, 1] == 0
_HELD = np.where(_ABOVE, np.isin(_STEP, (3, 8)), np.isin(_STEP, (1, 6)))
_CHOOSE = np.where(_ABOVE, _STEP == 5, _STEP == 2)
HELD_OUT, CHOOSING, SEEN = COMPOSITIONS[_HELD], COMPOSITIONS[_CHOOSE], COMPOSITIONS[~_HELD & ~_CHOOSE]
"""(40, 3), (20, 3) and (140, 3): the first digit, the relation's number, the second digit."""


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """The images (1797, 8, 8), ink from 0 to 1, and which digit each is."""
    found = load_digits()
    return found.images / 16.0, found.target


def sentence(composition: np.ndarray) -> str:
    """The words for one composition.

    >>> sentence(np.array([7, 0, 3])), sentence(np.array([2, 1, 9]))
    ('a seven above a three', 'a two left of a nine')
    """
    one, relation, two = composition
    return f"a {NUMBERS[one]} {RELATIONS[relation]} a {NUMBERS[two]}"


def sentences(compositions: np.ndarray) -> Sequences:
    """A sequence of words for each composition."""
    text = "\n".join(sentence(one) for one in compositions)
    return Sequences.from_text(text=text, level="word", separator="\n", categories=VOCABULARY)


def draw(compositions: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 3): compositions in turn, each as often as any other, shuffled."""
    return rng.permutation(np.resize(rng.permutation(compositions), (count, 3)))


def scenes(compositions: np.ndarray, images: str, seed: int, noise: float = 0.0) -> Pairs:
    """An image (1, 20, 20), with this standard deviation of noise, and a sentence for each composition (N, 3)."""
    rng = np.random.default_rng(seed)
    canvases = rng.normal(0.0, noise, (len(compositions), SIDE, SIDE))
    for canvas, composition in zip(canvases, compositions, strict=True):
        corners = _places(composition[1], rng)
        for number, corner in zip(composition[[0, 2]], corners, strict=True):
            _stamp(canvas, _image(number, images, rng), corner)
    return Pairs(torch.from_numpy(canvases).float().unsqueeze(1), sentences(compositions))


def videos(compositions: np.ndarray, images: str, seed: int, noise: float = 0.15) -> Pairs:
    """Six to ten frames of 400 pixels, and a sentence, for each composition (N, 3).

    Each digit shows for a stretch of two to four frames of its own, and wanders by a pixel now and then; a frame in
    which both show may or may not occur. `noise` is the standard deviation of what is added to every pixel.
    """
    rng = np.random.default_rng(seed)
    frames = []
    for composition in compositions:
        steps = rng.integers(6, 11)
        film = rng.normal(0.0, noise, (steps, SIDE, SIDE))
        for number, corner in zip(composition[[0, 2]], _places(composition[1], rng), strict=True):
            image, length = _image(number, images, rng), rng.integers(2, 5)
            start = rng.integers(0, steps - length + 1)
            for t in range(start, start + length):
                corner = np.clip(corner + rng.integers(-1, 2, 2) * (rng.random(2) < 0.3), 0, SIDE - DIGIT)
                _stamp(film[t], image, corner)
        frames.append(film.reshape(steps, -1))
    return Pairs(Sequences.from_arrays(frames), sentences(compositions))


def tracks(count: int, images: str, seed: int, steps: int = 20, noise: float = 0.25) -> tuple[Pairs, np.ndarray]:
    """A digit that drifts through `steps` frames of 400 pixels, bounces off the edges, and is out of sight at times.

    Returns:
        frames with the place of the digit's centre in each, pixels (x to the right, y down); and (count * steps,) bool,
        True where it is out of sight: two stretches of three to five frames each, neither of them in the first four.
    """
    rng = np.random.default_rng(seed)
    frames, places = rng.normal(0.0, noise, (count, steps, SIDE, SIDE)), np.zeros((count, steps, 2))
    hidden = np.zeros((count, steps), dtype=bool)
    for n in range(count):
        image = _image(rng.integers(10), images, rng)
        speed, angle = rng.uniform(0.8, 2.0), rng.uniform(0, 2 * np.pi)
        start, velocity = rng.uniform(0, SIDE - DIGIT, 2), speed * np.array([np.cos(angle), np.sin(angle)])
        way = (start + velocity * np.arange(steps)[:, None]) % (2 * (SIDE - DIGIT))
        corners = (SIDE - DIGIT) - np.abs((SIDE - DIGIT) - way)  # a reflected line: the digit bounces
        for first in (rng.integers(4, 8), rng.integers(11, 16)):
            hidden[n, first : first + rng.integers(3, 6)] = True
        for t in np.flatnonzero(~hidden[n]):
            _stamp(frames[n, t], image, corners[t, ::-1])
        places[n] = corners + (DIGIT - 1) / 2
    film = Sequences.from_arrays(frames.reshape(count, steps, -1))
    return Pairs(film, Sequences.from_arrays(places, columns=("x", "y"))), hidden.ravel()


def _image(number: int, images: str, rng: np.random.Generator) -> np.ndarray:
    pixels, numbers = (whole[IMAGES[images]] for whole in digits())
    return pixels[rng.choice(np.flatnonzero(numbers == number))]


def _places(relation: int, rng: np.random.Generator) -> np.ndarray:
    """(2, 2): row and column of the upper left corner of each digit."""
    along = np.array([rng.integers(0, 4), rng.integers(SIDE - DIGIT - 3, SIDE - DIGIT + 1)])
    across = np.clip(rng.integers(0, SIDE - DIGIT + 1) + rng.integers(-2, 3, 2), 0, SIDE - DIGIT)
    corners = np.stack([along, across], axis=1)
    return corners if relation == 0 else corners[:, ::-1]


def _stamp(canvas: np.ndarray, image: np.ndarray, corner: np.ndarray) -> None:
    """Add the image at a corner (row, column) that need not be whole: its ink is shared by the pixels it lies on."""
    (row, column), (down, right) = np.floor(corner).astype(int), np.asarray(corner) % 1
    for i, share in ((0, 1 - down), (1, down)):
        for j, part in ((0, 1 - right), (1, right)):
            if share * part > 0:
                canvas[row + i : row + i + DIGIT, column + j : column + j + DIGIT] += share * part * image
