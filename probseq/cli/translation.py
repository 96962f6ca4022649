"""`probseq train-translator` and `probseq translate`."""

import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

from probseq.cli.fitting import INTERRUPTED, finite
from probseq.cli.output import print_rich, write_stdout
from probseq.errors import DataError, ModelError
from probseq.inference import NetworkFit, train
from probseq.io.csv import read_text
from probseq.io.parallel import read_parallel
from probseq.io.writing import check_writable, write_text
from probseq.models import AverageLength, Beam, SequenceToSequence, WuLength

NAMED = 10
"""Unknown words that are named, at most."""

COLUMNS = ("line", "rank", "log_prob", "score", "translation")


def learn(
    file: Path,
    level: str,
    rare: int,
    shape: dict[str, Any],
    options: dict[str, Any],
    out: Path,
    resume: bool,
    as_json: bool,
) -> int:
    """Train, save and print; the exit code."""
    check_writable(out, directory=True)
    if shape["dropout"] and shape["layers"] == 1:
        raise ModelError(
            f"--dropout must come with --layers 2 or more, between which it is, got {shape['dropout']:g} with one; "
            "leave it out or add a layer."
        )
    pairs = read_parallel(file, level=level, rare=rare)
    network = SequenceToSequence.of(pairs, **shape)
    shown = sys.stderr.isatty() and not as_json
    fit = train(network, pairs, bucketed=True, directory=out, resume=resume, progress=shown, **options)
    found: dict[str, Any] = fit.summary()
    found |= {"pairs": pairs.count, "source": network.source.size, "target": network.target.size}
    if as_json:
        write_stdout(json.dumps(finite(found), allow_nan=False) + "\n")
    else:
        print_rich(
            f"{pairs.count:,} pairs of sentences, {network.source.size:,} {level}s to {network.target.size:,}; "
            f"{found['n_parameters']:,} weights; {found['epochs']} epochs in {found['seconds']:.0f} s: "
            f"{found['stop_reason']}",
            *(
                f"{name}: {value:.4f} nats a {level}, perplexity {math.exp(value):.4g}, at epoch {found['best_epoch']}"
                for name, value in found["nats_per_step"].items()
            ),
            f"Saved in {out}. Next: probseq translate {out} FILE",
        )
    return INTERRUPTED if fit.stop_reason == "interrupted" else 0


def beam_of(width: int, best: int, penalty: str, alpha: float | None, longest: int) -> Beam:
    """The search that was asked for."""
    if alpha is not None and penalty != "wu":
        raise ModelError(f"--alpha must come with --penalty wu, got {penalty}; leave one of the two out.")
    if best > width:
        raise ModelError(f"--nbest must be at most --beam, {width}, got {best}; widen the beam, or ask for fewer.")
    laws = {"none": None, "average": AverageLength(), "wu": WuLength(0.6 if alpha is None else alpha)}
    return Beam(width, best, laws[penalty], longest)


def translate(saved: Path, file: Path, search: Beam, scores: bool, out: Path | None) -> None:
    """A line for each line, or a table."""
    if out is not None:
        check_writable(out)
    network = NetworkFit.load(saved).network
    if not isinstance(network, SequenceToSequence):
        raise DataError(
            f"a translator must be a network of sequences to sequences, got one of kind {network.kind!r} in {saved}; "
            "give a directory that probseq train-translator wrote."
        )
    text = _standard_input() if str(file) == "-" else read_text(file)
    lines = [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
    full = [number for number, line in enumerate(lines) if line.strip()]
    if not full:
        raise DataError(f"text must hold at least one sentence, got none in {file}; give a sentence a line.")
    found = network.translate([lines[number] for number in full], search)
    found["line"] = [full[source] + 1 for source in found["source"]]
    _say_unknown(dict(zip(found["line"], found["unknown"], strict=True)))
    if scores or search.best > 1:
        written = found[list(COLUMNS)].to_csv(sep="\t", index=False, lineterminator="\n")
    else:
        texts = dict(zip(found["line"], found["translation"], strict=True))
        written = "".join(f"{texts.get(number, '')}\n" for number in range(1, len(lines) + 1))
    if out is None:
        write_stdout(written)
    else:
        write_text(out, written)
        print(f"translations of {len(full):,} sentences written to {out}", file=sys.stderr)


def _say_unknown(unknown: dict[int, str]) -> None:
    """Warn of words that the translator has never seen."""
    said = [f"{words} in line {line}" for line, words in unknown.items() if words]
    if said:
        more = f" and in {len(said) - NAMED} lines more" if len(said) > NAMED else ""
        warnings.warn(f"unknown words are read as rare ones: {'; '.join(said[:NAMED])}{more}.", stacklevel=2)


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"standard input must be UTF-8 text, got byte 0x{error.object[error.start]:02x}; convert it to UTF-8."
        ) from error
