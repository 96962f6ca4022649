"""What can be typed. Each command hands on to a module that is imported only when it runs, so that help is instant."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from probseq import __version__

app = typer.Typer(
    help="Hidden Markov models of sequences: fit, select, decode, forecast, simulate, report.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Method(StrEnum):
    """How to fit."""

    em = "em"
    svi = "svi"
    nuts = "nuts"
    gibbs = "gibbs"


class Criterion(StrEnum):
    """What the best number of states has least of."""

    bic = "bic"
    aic = "aic"
    aicc = "aicc"
    hqic = "hqic"
    icl = "icl"


Data = Annotated[Path, typer.Argument(metavar="FILE", help="CSV table with a header, or FASTA (.fa, .fasta, .gz).")]
Saved = Annotated[Path, typer.Argument(metavar="DIR", help="Directory that `probseq fit --out` wrote.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", metavar="CSV", help="File to write; else standard output.")]
Seed = Annotated[int, typer.Option(min=0, max=2**62, metavar="S", help="Of everything random.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
FamilyName = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Law of an observation: gaussian, poisson, hurdle-gamma, von-mises, ...; a,b for columns."
    ),
]
Columns = Annotated[
    list[str] | None, typer.Option("--column", "-c", metavar="NAME", help="Column of values; repeat for several.")
]
Time = Annotated[str | None, typer.Option(metavar="NAME", help="Column of times.")]
Group = Annotated[str | None, typer.Option(metavar="NAME", help="Column that names each row's sequence.")]
Seasons = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PERIOD[:H]",
        help="Moves follow a cycle: year, week, day or a number of steps, with H harmonics; repeat for several.",
    ),
]
Covariates = Annotated[str, typer.Option(metavar="NAMES", help="Columns that moves depend on, comma separated.")]
Label = Annotated[
    str | None, typer.Option(metavar="NAME", help="Column of states that are known, from 0; empty or -1 where not.")
]
Weight = Annotated[str | None, typer.Option(metavar="NAME", help="Column of how often each sequence counts.")]
Stationary = Annotated[bool, typer.Option("--stationary", help="Start in the chain's stationary law.")]
Restarts = Annotated[int, typer.Option(metavar="R", help="Starts; the best is kept.")]
Priors = Annotated[bool, typer.Option("--priors", help="Weakly informative priors, so that no state collapses.")]
FillGaps = Annotated[bool, typer.Option("--fill-gaps", help="Insert the steps that the calendar misses.")]


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Hidden Markov models of sequences: fit, select, decode, forecast, simulate, report."""
    if version:
        print(f"probseq {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def fit(
    context: typer.Context,
    file: Data,
    states: Annotated[str, typer.Option(metavar="K|K1:K2", help="Hidden states; BIC chooses from a range.")],
    family: FamilyName,
    column: Columns = None,
    time: Time = None,
    group: Group = None,
    season: Seasons = None,
    covariates: Covariates = "",
    label: Label = None,
    weight: Weight = None,
    stationary: Stationary = False,
    method: Annotated[
        Method,
        typer.Option(
            metavar="em|svi|nuts|gibbs", help="EM, variational inference, or draws of the posterior by NUTS or Gibbs."
        ),
    ] = Method.em,
    restarts: Annotated[
        int | None, typer.Option(metavar="R", help="Starts of em and svi, 10 by default; the best is kept.")
    ] = None,
    chains: Annotated[int | None, typer.Option(metavar="C", help="Chains of nuts and gibbs, 4 by default.")] = None,
    draws: Annotated[
        int | None, typer.Option(metavar="D", help="Draws of each chain (or of svi), 1000 by default.")
    ] = None,
    tune: Annotated[int | None, typer.Option(metavar="W", help="Draws of each chain's warm-up.")] = None,
    seed: Seed = 0,
    priors: Priors = False,
    fill_gaps: FillGaps = False,
    unit: Annotated[str, typer.Option(metavar="UNIT", help="Of the data, such as mm, for tables and figures.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Directory to save the fit in.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Fit a hidden Markov model; for a range of states, take the one with the lowest BIC."""
    from probseq.cli import fitting
    from probseq.cli.source import Source

    design = fitting.parse_design(covariates, season or [])
    source = Source(tuple(column or ()), time, group, fill_gaps, None, unit, context.obj or "", seed)
    source = replace(source, covariates=design.covariates, label=label, weight=weight)
    search = fitting.Search(
        states, family, stationary, method.value, restarts, seed, priors, design, chains, draws, tune
    )
    return fitting.run(file, source, search, out, as_json)


@app.command()
def select(
    file: Data,
    states: Annotated[str, typer.Option(metavar="K1:K2", help="Hidden states to compare.")],
    family: FamilyName,
    column: Columns = None,
    time: Time = None,
    group: Group = None,
    season: Seasons = None,
    covariates: Covariates = "",
    label: Label = None,
    weight: Weight = None,
    stationary: Stationary = False,
    criterion: Annotated[
        Criterion, typer.Option(metavar="bic|aic|aicc|hqic|icl", help="What the best has least of.")
    ] = Criterion.bic,
    restarts: Restarts = 10,
    seed: Seed = 0,
    priors: Priors = False,
    fill_gaps: FillGaps = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="CSV", help="File to write the table to.")] = None,
    as_json: AsJson = False,
) -> int:
    """Compare numbers of hidden states by information criteria; a table with the best one marked."""
    from probseq.cli import fitting, selecting
    from probseq.cli.source import Source

    design = fitting.parse_design(covariates, season or [])
    source = Source(tuple(column or ()), time, group, fill_gaps)
    source = replace(source, covariates=design.covariates, label=label, weight=weight)
    search = fitting.Search(states, family, stationary, "em", restarts, seed, priors, design, criterion=criterion.value)
    return selecting.run(file, source, search, out, as_json)


@app.command()
def decode(saved: Saved, file: Data, out: Out = None) -> None:
    """The most probable state of each step, its probabilities and the one-step predictive density, as CSV."""
    from probseq.cli import answers

    answers.decode(saved, file, out)


@app.command()
def forecast(
    saved: Saved,
    file: Data,
    horizon: Annotated[int, typer.Option(help="Steps ahead, at least 1.")],
    quantiles: Annotated[str, typer.Option(help="Comma separated, each between 0 and 1.")] = "0.05,0.25,0.5,0.75,0.95",
    covariates: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Covariates of the steps ahead, where the model depends on some.")
    ] = None,
    out: Out = None,
) -> None:
    """Mean, quantiles and state probabilities of the next steps of each sequence, as CSV."""
    from probseq.cli import answers

    answers.forecast(saved, file, horizon, quantiles, covariates, out)


@app.command()
def simulate(
    saved: Saved,
    steps: Annotated[int | None, typer.Option(help="Steps of each sequence; by default those of the data.")] = None,
    sequences: Annotated[int, typer.Option(help="How many.")] = 1,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """New sequences from a fitted model, with their hidden states, as CSV."""
    from probseq.cli import answers

    answers.simulate(saved, steps, sequences, seed, out)


@app.command()
def report(
    saved: Saved,
    file: Data,
    title: Annotated[str, typer.Option(help="Of the page.")] = "",
    horizon: Annotated[int | None, typer.Option(help="Steps of the forecast shown.")] = None,
    diagnosis: Annotated[bool, typer.Option("--diagnosis", help="Write the diagnosis beside it, linked.")] = False,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="HTML", help="File to write.")] = Path("report.html"),
) -> None:
    """One HTML page: the model, its states in plain words, decoded series, simulation checks, forecast."""
    from probseq.cli import answers

    answers.report(saved, file, title, horizon, diagnosis, out)


@app.command()
def diagnose(
    saved: Saved,
    file: Data,
    replicates: Annotated[int, typer.Option(metavar="N", help="Simulated series to compare the data with.")] = 200,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="HTML", help="Page to write, with figures.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What speaks against a fit: errors of the parameters, residuals, simulation checks, sureness of the states."""
    from probseq.cli import diagnosing

    diagnosing.run(saved, file, replicates, out, as_json)


@app.command()
def segment(
    file: Annotated[Path, typer.Argument(metavar="FASTA", help="Genome, plain or gzipped, of one or many records.")],
    states: Annotated[
        int | None, typer.Option(metavar="K", help="Hidden states; with --labels, those that they name by default.")
    ] = None,
    order: Annotated[int, typer.Option(metavar="k", min=0, help="Bases before it that a base depends on.")] = 0,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="BED", help="File of segments; the signals go beside it.")
    ] = Path("segments.bed"),
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Known features: BED, GFF3, or CSV with type, start, end.")
    ] = None,
    kinds: Annotated[
        str, typer.Option(metavar="A,B", help="Kinds of feature that are states, the first where they overlap.")
    ] = "",
    strands: Annotated[bool, typer.Option("--strands", help="A state for each kind on either strand.")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Bases in no feature are unknown rather than background.")
    ] = False,
    training: Annotated[
        Path | None, typer.Option(metavar="FASTA", help="What the labels are of and the fit is to, if another genome.")
    ] = None,
    restarts: Restarts = 5,
    seed: Seed = 0,
    fit_bases: Annotated[
        int, typer.Option(metavar="N", min=0, help="Bases to fit to, spread over a longer genome; 0 is all.")
    ] = 5_000_000,
    signals: Annotated[bool, typer.Option("--bedgraph/--no-bedgraph", help="Write each state's probability.")] = True,
    track: Annotated[bool, typer.Option("--track", help="Begin files with a track line for genome browsers.")] = False,
    save: Annotated[Path | None, typer.Option(metavar="DIR", help="Directory to save the fit in.")] = None,
    as_json: AsJson = False,
) -> int:
    """Cut a genome into segments by composition, or by labelled features; write BED and bedGraph.

    Letters other than A, C, G, T and U are missing. BED counts bases from 0; a score is 1000 times the mean probability
    of the segment's state. With labels a base in no feature is background and the fit is counting; --partial leaves it
    unknown, and keeps what is known in the segments too.
    """
    from probseq.cli import segmentation

    known = segmentation.Known(labels, kinds, strands, partial, training)
    options = {"states": states, "order": order, "restarts": restarts, "seed": seed, "fit_bases": fit_bases}
    return segmentation.run(file, known, out, save, as_json, signals=signals, track=track, **options)


@app.command()
def datasets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One data set; all are listed without.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it as a file.")] = None,
) -> None:
    """List the data sets that come with probseq, or write one as a file (Hong Kong's is downloaded)."""
    from probseq.cli import data

    data.run(name, out)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Directory to write.")] = Path("probseq-demo"),
) -> int:
    """Fit the rainfall of Seattle and New York with 1 to 4 states and write a report."""
    from probseq.cli import demonstration

    return demonstration.run(out)
