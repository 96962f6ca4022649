"""Can a network learn to say numbers in French from those it has heard in English and French?

"ninety seven" is "quatre vingt dix sept", four twenties and seventeen: no word goes with a word. An LSTM reads the
English words (backwards, as Sutskever, Vinyals & Le 2014 advise), and another writes the French ones from what the
first remembers. A translation is right only if it is exact; a third of the numbers to 999 is never heard in training.
"""

import os

import numpy as np

from probseq import SequenceToSequence, read_parallel, train
from probseq.models import AverageLength, Beam, Greedy, Sampling

EPOCHS = 4 if os.environ.get("PROBSEQ_QUICK") else 80
ENGLISH = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"""
FRENCH = """zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize
vingt trente quarante cinquante soixante"""
SMALL, TENS = ENGLISH.split()[:20], ENGLISH.split()[20:]
PETITS, DIZAINES = FRENCH.split()[:17], FRENCH.split()[17:]


def english(number: int) -> str:
    """In words, without hyphens."""
    if number >= 100:
        rest = f" and {english(number % 100)}" if number % 100 else ""
        return f"{SMALL[number // 100]} hundred{rest}"
    if number < 20:
        return SMALL[number]
    return TENS[number // 10 - 2] + (f" {SMALL[number % 10]}" if number % 10 else "")


def french(number: int) -> str:
    """In words, without hyphens: sixty and eleven, four twenties and seventeen."""
    if number >= 100:
        count, rest = divmod(number, 100)
        hundreds = "cent" if count == 1 else f"{PETITS[count]} cent{'' if rest else 's'}"
        return f"{hundreds} {french(rest)}" if rest else hundreds
    if number < 17:
        return PETITS[number]
    if number < 20:
        return f"dix {PETITS[number - 10]}"
    if number >= 80:
        return f"quatre vingt {french(number - 80)}" if number > 80 else "quatre vingts"
    ten = min(number // 10, 6)
    rest = number - 10 * ten
    joint = " et " if rest in (1, 11) else " "
    return DIZAINES[ten - 2] + (f"{joint}{french(rest)}" if rest else "")


def exact(network: SequenceToSequence, numbers: list[int], search: Greedy | Beam) -> float:
    """The share of numbers translated exactly."""
    found = network.translate([english(number) for number in numbers], search)
    return float(np.mean([text == french(n) for text, n in zip(found["translation"], numbers, strict=True)]))


def main() -> None:
    numbers = np.random.default_rng(0).permutation(1000).tolist()
    heard, unheard = numbers[:660], numbers[660:]
    pairs = read_parallel(text="\n".join(f"{english(n)}\t{french(n)}" for n in heard))
    learned = {}
    for name, reverse, attention in [
        ("read backwards", True, False),
        ("read forwards", False, False),
        ("with attention", False, True),
    ]:
        network = SequenceToSequence.of(
            pairs, hidden_size=64, embedding_size=32, reverse=reverse, attention=attention, seed=0
        )
        fit = train(network, pairs, validation=0.1, epochs=EPOCHS, learning_rate=5e-3, bucketed=True, patience=None)
        assert isinstance(fit.network, SequenceToSequence)
        learned[name] = fit.network
        shares = [exact(fit.network, unheard, search) for search in (Greedy(20), Beam(5, longest=20))]
        print(
            f"{name}: of {len(unheard)} new numbers {shares[0]:.1%} exact by greedy search, {shares[1]:.1%} by a beam"
        )

    translator, sentence = learned["read backwards"], english(unheard[0])
    print(f"\n{sentence}, in truth {french(unheard[0])}:")
    print(translator.translate([sentence], Beam(5, 3, AverageLength(), 20))[["translation", "log_prob", "score"]])
    print("drawn from what the network holds possible, at twice the temperature:")
    print(translator.translate([sentence], Sampling(3, temperature=2.0, longest=20))[["translation", "log_prob"]])
    print(translator.translate(["two hundred and umpteen"], Beam(longest=20))[["translation", "unknown"]])


if __name__ == "__main__":
    main()
