"""Letters of the King James Bible: bits per character of an LSTM beside Markov chains of order 1 to 6.

    python -m tests.experiments.characters FILE DIRECTORY [SECONDS]

FILE is kjv_bible.txt, the first 1.5 MB of the King James Version (Project Gutenberg), which is not shipped. A sequence
is a verse without its number, and it ends by itself: the end is one symbol more, which every model predicts and which
counts as a character. Verses are dealt out by their place: every 20th is held out for the comparison, one in 40 chooses
the best epoch of the network, and all models learn from the others alone. The Markov chains see as many ends before the
first letter as they are long, so that they are scored on the same characters; their smoothing is interpolated
Kneser-Ney and Witten-Bell (`probseq.models.ngrams`).

With SECONDS a piece of the training so long is run, and the next call goes on: the run in pieces is the run in one.
The last piece writes characters.json, characters.md and characters.png into DIRECTORY.
"""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probseq import MarkovModel, NetworkFit, Sequences, plots, train
from probseq.models import KneserNey, RecurrentModel, WittenBell
from probseq.recurrent import LSTM

END = "\n"
SMOOTHINGS = {"Kneser-Ney": KneserNey(), "Witten-Bell": WittenBell()}
OPTIONS: dict[str, Any] = {"epochs": 18, "batch_size": 32, "learning_rate": 6e-3, "anneal": True, "bucketed": True}
HIDDEN, EMBEDDING = 256, 48


@dataclass(frozen=True)
class Verses:
    """Verses dealt out, and all letters of them."""

    training: list[str]
    validation: list[str]
    held_out: list[str]
    letters: tuple[str, ...]

    @staticmethod
    def read(file: Path, most: int | None = None) -> Verses:
        """The verses of a text: paragraphs or lines that begin with an indented number; at most so many."""
        found = []
        for part in re.split(r"\n(?=\s+\d+ )|\n\s*\n", file.read_text(encoding="utf-8")):
            verse = re.match(r"\s+\d+ (.*)", part, re.DOTALL)
            if verse:
                found.append(" ".join(verse.group(1).split()))
        found = found[:most]
        held_out, validation = found[::20], found[10::40]
        training = [verse for i, verse in enumerate(found) if i % 20 and i % 40 != 10]
        return Verses(training, validation, held_out, tuple(sorted(set("".join(found)))))

    def series(self, verses: list[str]) -> Sequences:
        """Letters alone: the network knows of the end."""
        return Sequences.from_text(text=END.join(verses), separator=END, categories=self.letters)

    def framed(self, verses: list[str], order: int) -> Sequences:
        """For a Markov chain: the end after each verse, and `order` of them before it, which are not scored."""
        text = "\0".join(END * order + verse + END for verse in verses)
        return Sequences.from_text(text=text, separator="\0", categories=(END, *self.letters))


def bits(nats: float, verses: list[str]) -> float:
    """Per character, the end of each verse counted."""
    return -nats / math.log(2.0) / (sum(map(len, verses)) + len(verses))


def markov_bits(verses: Verses, orders: range = range(1, 7)) -> dict[str, dict[int, float]]:
    """Bits per character of the held-out verses, by smoothing and order."""
    found: dict[str, dict[int, float]] = {name: {} for name in SMOOTHINGS}
    for name, smoothing in SMOOTHINGS.items():
        for order in orders:
            fit = MarkovModel(order, smoothing=smoothing).fit(verses.framed(verses.training, order))
            nats = float(fit.log_prob(verses.framed(verses.held_out, order)).sum())
            found[name][order] = bits(nats, verses.held_out)
    return found


def train_network(verses: Verses, hidden: int | None = None, **options: Any) -> NetworkFit:
    """An LSTM of so many units, HIDDEN by default, that reads letters and ends by itself."""
    series = verses.series(verses.training)
    network = RecurrentModel.for_series(
        series,
        "categorical",
        lambda inputs: LSTM(inputs, hidden or HIDDEN, forget_bias=1.0),
        embedding=EMBEDDING,
        stopping="end",
    )
    return train(network, series, validation=verses.series(verses.validation), **{**OPTIONS, **options})


def network_bits(fit: NetworkFit, verses: Verses) -> float:
    """Bits per character of the held-out verses."""
    return bits(float(fit.log_prob(verses.series(verses.held_out)).sum()), verses.held_out)


def samples(fit: NetworkFit, letters: tuple[str, ...], count: int = 8, seed: int = 0) -> list[str]:
    """Verses that the network writes, each until it ends by itself."""
    drawn = fit.simulate(seed=seed, count=count)
    return [
        "".join(letters[code] for code in part.tolist()) for part in drawn.values.long().split(drawn.lengths.tolist())
    ]


def as_markdown(result: dict[str, Any]) -> str:
    """Both tables and the samples."""
    lines = ["| Markov chain of order | " + " | ".join(SMOOTHINGS) + " |", "|---" * (len(SMOOTHINGS) + 1) + "|"]
    orders = list(next(iter(result["markov"].values())))
    lines += [
        f"| {k} | " + " | ".join(f"{result['markov'][name][k]:.3f}" for name in SMOOTHINGS) + " |" for k in orders
    ]
    network = result["network"]
    lines += [
        "",
        f"LSTM of {network['hidden']} units, {network['n_parameters']:,} weights: {network['bits']:.3f} bits per",
    ]
    lines += [f"character after {network['epochs']} epochs in {network['seconds'] / 60:.1f} minutes.", ""]
    lines += ["Validation by epoch: " + ", ".join(f"{value:.3f}" for value in network["validation"]) + ".", ""]
    return "\n".join([*lines, "It writes:", "", *(f"> {text}\n" for text in result["samples"])])


def main() -> None:
    file, directory = Path(sys.argv[1]), Path(sys.argv[2])
    limit = float(sys.argv[3]) if len(sys.argv) > 3 else None
    verses = Verses.read(file)
    fit = train_network(verses, directory=directory, resume=True, time_limit=limit, progress=sys.stderr.isatty())
    print(fit.stop_reason, (fit.curves["validation"] / math.log(2.0)).round(3).tolist())
    if "time limit" in fit.stop_reason:
        return
    network = {"hidden": HIDDEN, "n_parameters": fit.n_parameters, "bits": network_bits(fit, verses)}
    network |= {"epochs": len(fit.curves), "seconds": fit.seconds, "options": OPTIONS}
    network |= {name: (fit.curves[name] / math.log(2.0)).tolist() for name in ("train", "validation")}
    result = {"network": network, "markov": markov_bits(verses), "samples": samples(fit, verses.letters)}
    (directory / "characters.json").write_text(json.dumps(result, indent=1) + "\n")
    (directory / "characters.md").write_text(as_markdown(result))
    made, axes = plots.figure(7.0, 3.8)
    plots.training_curves(axes, fit, bits=True)
    for order, value in result["markov"]["Kneser-Ney"].items():
        if order > 2:
            axes.axhline(value, color="#bdbdbd", linewidth=0.8)
            axes.annotate(f"order {order}", (1.0, value), xycoords=("axes fraction", "data"), fontsize=8)
    made.savefig(directory / "characters.png")
    print(as_markdown(result))


if __name__ == "__main__":
    main()
