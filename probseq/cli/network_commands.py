"""What can be typed about recurrent networks; like `commands`, it imports nothing heavy before a command runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from probseq.cli.commands import AsJson, Group, Seed, Time, app


class Level(StrEnum):
    """What of a text is a symbol."""

    characters = "characters"
    words = "words"


class Each(StrEnum):
    """What of a text is a sequence."""

    line = "line"
    paragraph = "paragraph"
    text = "text"


class Feedback(StrEnum):
    """What of the past a network is told at each step."""

    observed = "observed"
    predicted = "predicted"
    none = "none"


Learned = Annotated[Path, typer.Argument(metavar="FILE", help="Text, CSV table with a header, or FASTA.")]
Text = Annotated[
    Level | None, typer.Option(metavar="characters|words", help="The file is a text, read by these symbols.")
]
EachOf = Annotated[Each, typer.Option(metavar="line|paragraph|text", help="What of a text is a sequence.")]
Rare = Annotated[int, typer.Option(metavar="N", min=1, help="Symbols of a text that are rarer become one.")]
Values = Annotated[
    list[str] | None,
    typer.Option("--column", "--value", "-c", metavar="NAME", help="Column of values; repeat for several."),
]
Law = Annotated[
    str | None, typer.Option(metavar="NAME", help="Law of an observation; the network moves its parameters.")
]
Entering = Annotated[
    str, typer.Option("--covariates", "--covariate", metavar="NAMES", help="Columns that enter, comma separated.")
]
CellName = Annotated[str, typer.Option(metavar="vanilla|lstm|gru|...", help="Kind of recurrent layer.")]
Layers = Annotated[int, typer.Option(metavar="L", min=1, help="On top of each other.")]
Hidden = Annotated[int, typer.Option(metavar="H", min=1, help="Units of a layer.")]
Embedding = Annotated[
    int | None, typer.Option(metavar="E", min=1, help="Size of the vectors of symbols; one-hot without.")
]
Dropout = Annotated[float, typer.Option(metavar="P", min=0.0, max=0.9, help="Share of units left out in training.")]
Told = Annotated[Feedback, typer.Option(metavar="observed|predicted|none", help="What it is told of past values.")]
Stop = Annotated[bool | None, typer.Option("--stop/--no-stop", help="Sequences end by themselves; lines of a text do.")]
Epochs = Annotated[int, typer.Option(metavar="N", min=1, help="Passes over the data, at most.")]
BatchSize = Annotated[int, typer.Option(metavar="B", min=1, help="Sequences of an update.")]
Rate = Annotated[float, typer.Option(metavar="R", help="Learning rate, of Adam.")]
Patience = Annotated[int, typer.Option(metavar="N", min=1, help="Epochs without a lower loss before it stops.")]
Truncate = Annotated[int | None, typer.Option(metavar="T", min=1, help="Steps of back-propagation; all without.")]
Validation = Annotated[float, typer.Option(metavar="SHARE", help="Held out, to stop by; 0 holds out none.")]
Limit = Annotated[float | None, typer.Option(metavar="SECONDS", help="Stop after so many; --resume goes on.")]
RunDirectory = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Directory for checkpoints, fit and curves.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, exactly.")]


@app.command()
def train(
    file: Learned,
    text: Text = None,
    each: EachOf = Each.line,
    rare: Rare = 1,
    column: Values = None,
    family: Law = None,
    time: Time = None,
    group: Group = None,
    covariates: Entering = "",
    cell: CellName = "lstm",
    layers: Layers = 1,
    hidden: Hidden = 64,
    embedding: Embedding = None,
    dropout: Dropout = 0.0,
    feedback: Told = Feedback.observed,
    stop: Stop = None,
    epochs: Epochs = 100,
    batch_size: BatchSize = 32,
    learning_rate: Rate = 1e-3,
    patience: Patience = 10,
    truncate: Truncate = None,
    validation: Validation = 0.1,
    time_limit: Limit = None,
    seed: Seed = 0,
    out: RunDirectory = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> int:
    """Train a recurrent network on sequences; print its loss per step, and save it with its curves."""
    from probseq.cli import training
    from probseq.cli.fitting import parse_design
    from probseq.cli.source import Source

    source = Source(tuple(column or ()), time, group, covariates=parse_design(covariates, []).covariates)
    level = None if text is None else text.value.removesuffix("s")
    reading = training.Reading(source, level, each.value, rare, family)
    shape = training.Shape(cell, layers, hidden, embedding, dropout, feedback.value, stop)
    options = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "patience": patience}
    options |= {"truncate": truncate, "seed": seed, "time_limit": time_limit, "validation": validation or None}
    return training.run(file, reading, shape, options, out, resume, as_json)


TrainedIn = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a network that was trained.")]
Count = Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, help="How many sequences.")]
Length = Annotated[
    int | None, typer.Option(metavar="T", min=1, help="Steps of each; without, each stops by itself if it can.")
]
Start = Annotated[str, typer.Option(metavar="TEXT", help="What each begins with, of a network of symbols.")]
Vector = Annotated[str, typer.Option(metavar="NUMBERS", help="What it is conditional on, comma separated.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="A row for each step, where text would be printed.")]
Longest = Annotated[int, typer.Option(metavar="T", min=1, help="Steps after which an end is no longer waited for.")]
Written = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write; else printed.")]


@app.command()
def generate(
    saved: TrainedIn,
    count: Count = 1,
    length: Length = None,
    start: Start = "",
    vector: Vector = "",
    longest: Longest = 10_000,
    seed: Seed = 0,
    as_csv: AsCsv = False,
    out: Written = None,
) -> None:
    """Draw new sequences from a network that was trained: lines of text, or CSV where values are numbers."""
    from probseq.cli import generating

    wanted = generating.Wanted(count, length, start, vector, longest, seed)
    generating.run(saved, wanted, as_csv, out)
