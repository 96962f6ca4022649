"""What can be typed about translation; like `commands`, it imports nothing heavy before a command runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from probseq.cli.commands import AsJson, Seed, app
from probseq.cli.network_commands import (
    BatchSize,
    Dropout,
    Epochs,
    Hidden,
    Layers,
    Level,
    Limit,
    Patience,
    Rare,
    Rate,
    Resume,
    Validation,
)


class Penalty(StrEnum):
    """What a translation's log-probability is divided by when a beam ranks it."""

    none = "none"
    average = "average"
    wu = "wu"


ParallelText = Annotated[
    Path, typer.Argument(metavar="PAIRS", help="A pair a line: a sentence, a tab, its translation; plain or gzipped.")
]
Symbols = Annotated[Level, typer.Option("--text", metavar="characters|words", help="What of a sentence is a symbol.")]
Embedding = Annotated[int, typer.Option(metavar="E", min=1, help="Size of the vectors of symbols.")]
Reverse = Annotated[bool, typer.Option("--reverse/--no-reverse", help="Read a sentence from its last word on.")]
Attention = Annotated[bool, typer.Option("--attention", help="Let every word look at all of the sentence.")]
TranslatorDirectory = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Directory for checkpoints, translator and curves.")
]
Translator = Annotated[Path, typer.Argument(metavar="DIR", help="Directory that `probseq train-translator` wrote.")]
Lines = Annotated[Path, typer.Argument(metavar="[FILE]", help="A sentence a line; standard input where it is -.")]
Width = Annotated[int, typer.Option("--beam", metavar="W", min=1, help="Beginnings kept; 1 is greedy.")]
Best = Annotated[int, typer.Option("--nbest", metavar="N", min=1, help="Translations of each sentence, at most W.")]
Scores = Annotated[bool, typer.Option("--scores", help="A table with log-probabilities, by tabs.")]
LengthPenalty = Annotated[
    Penalty,
    typer.Option("--penalty", metavar="none|average|wu", help="Rank by log p, by nats a word, or as Wu et al. (2016)."),
]
Alpha = Annotated[float | None, typer.Option(metavar="A", help="Strength of --penalty wu; 0.6 without.")]
Longest = Annotated[int, typer.Option(metavar="N", min=1, help="Symbols of a translation, at most.")]
Translations = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write; else standard output.")
]


@app.command("train-translator")
def train_translator(
    file: ParallelText,
    out: TranslatorDirectory,
    text: Symbols = Level.words,
    rare: Rare = 1,
    layers: Layers = 1,
    hidden: Hidden = 128,
    embedding: Embedding = 64,
    dropout: Dropout = 0.0,
    reverse: Reverse = True,
    attention: Attention = False,
    epochs: Epochs = 100,
    batch_size: BatchSize = 64,
    learning_rate: Rate = 3e-3,
    patience: Patience = 10,
    validation: Validation = 0.1,
    time_limit: Limit = None,
    seed: Seed = 0,
    resume: Resume = False,
    as_json: AsJson = False,
) -> int:
    """Train an LSTM encoder-decoder on parallel text, for `probseq translate`."""
    from probseq.cli import translation

    shape = {"layers": layers, "hidden_size": hidden, "embedding_size": embedding, "dropout": dropout}
    shape |= {"reverse": reverse, "attention": attention, "seed": seed}
    options = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "patience": patience}
    options |= {"validation": validation or None, "time_limit": time_limit, "seed": seed}
    level = text.value.removesuffix("s")
    return translation.learn(file, level, rare, shape, options, out, resume, as_json)


@app.command()
def translate(
    saved: Translator,
    file: Lines = Path("-"),
    beam: Width = 5,
    nbest: Best = 1,
    scores: Scores = False,
    penalty: LengthPenalty = Penalty.none,
    alpha: Alpha = None,
    longest: Longest = 100,
    out: Translations = None,
) -> None:
    """Translate each line; an empty line stays empty. With --nbest or --scores, a table by tabs.

    Words that the translator does not know are read as rare ones, and said on standard error.
    """
    from probseq.cli import translation

    translation.translate(saved, file, translation.beam_of(beam, nbest, penalty.value, alpha, longest), scores, out)
