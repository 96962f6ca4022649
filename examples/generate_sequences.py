"""How does a network know when to stop? Words of an invented language, ended by an end symbol or by a law of length.

A word has one to four syllables, each of a consonant and a vowel, and all vowels of a word are the same, which a
network must carry from the first syllable to the last. The law of the words is known here, so that the networks'
log-probabilities can be held against its entropy. Takes about a minute; PROBSEQ_QUICK=1 learns next to nothing in
seconds.
"""

import math
import os

import numpy as np

from probseq import LengthLaw, RecurrentModel, Sequences, families, train

QUICK = "PROBSEQ_QUICK" in os.environ
CONSONANTS, VOWELS = "kpt", "aiu"
SYLLABLES = {1: 0.2, 2: 0.4, 3: 0.3, 4: 0.1}


def words(count: int, seed: int) -> Sequences:
    """Words of the language."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice(list(SYLLABLES), size=count, p=list(SYLLABLES.values()))
    drawn = [(rng.choice(list(VOWELS)), rng.choice(list(CONSONANTS), size=size)) for size in sizes]
    text = "\n".join("".join(consonant + vowel for consonant in several) for vowel, several in drawn)
    return Sequences.from_text(text=text, separator="\n", categories=tuple(CONSONANTS + VOWELS))


def spelled(series: Sequences) -> list[str]:
    """The words of a series."""
    assert series.categories is not None
    parts = series.values.split(series.lengths.tolist())
    return ["".join(series.categories[int(code)] for code in part) for part in parts]


def legal(word: str) -> bool:
    """Whether the language has this word."""
    ends = len(word) % 2 == 0 and len(word) // 2 in SYLLABLES
    return ends and set(word[::2]) <= set(CONSONANTS) and len(set(word[1::2])) == 1 and word[1] in VOWELS


def entropy() -> float:
    """Nats of a word: of its length, its consonants, its vowel."""
    length = -sum(share * math.log(share) for share in SYLLABLES.values())
    syllables = sum(count * share for count, share in SYLLABLES.items())
    return length + syllables * math.log(len(CONSONANTS)) + math.log(len(VOWELS))


def main() -> None:
    learned, held_out = words(300 if QUICK else 3000, seed=1), words(1000, seed=2)
    print(f"the language: {entropy():.3f} nats a word")

    longest = int(learned.lengths.max())
    mechanisms = {
        "end symbol": "end",
        "law of length, told what remains": LengthLaw(families.Categorical(longest + 2)),
        "law of length, not told": LengthLaw(families.Categorical(longest + 2), tells=()),
    }
    for name, stopping in mechanisms.items():
        network = RecurrentModel.for_series(learned, "categorical", "lstm", 24, stopping=stopping, seed=1)
        fit = train(network, learned, validation=0.1, epochs=2 if QUICK else 25, learning_rate=0.01, seed=1)
        drawn = spelled(fit.simulate(count=1000, seed=3))
        right = np.mean([legal(word) for word in drawn])
        sizes = np.bincount([len(word) for word in drawn], minlength=9)[2:9:2] / len(drawn)
        nats = -float(fit.log_prob(held_out).mean())
        print(f"\n{name}: {nats:.3f} nats a word that was held out, {right:.1%} of what it draws are words")
        print("  syllables 1 to 4:", ", ".join(f"{share:.2f}" for share in sizes), "  such as", *drawn[:8])


if __name__ == "__main__":
    main()
