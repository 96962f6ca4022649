"""`probseq fit`: read, fit, print, save."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from probseq import families
from probseq.chains import FreeTransitions, LogitTransitions, initial_laws
from probseq.cli.output import write_stdout
from probseq.cli.source import Source, is_fasta
from probseq.design import CALENDAR, Design, Season
from probseq.errors import ModelError
from probseq.inference import Fit, em, gibbs, nuts, svi
from probseq.inference.selection import Selection, select
from probseq.io.writing import check_writable
from probseq.models import HMM
from probseq.sequences import Sequences

INTERRUPTED = 130


@dataclass(frozen=True)
class Search:
    """What to fit and how.

    Args:
        states: "K" or "K1:K2".
        family: by name.
        stationary: whether the first state has the stationary law.
        method: "em", "svi", "nuts" or "gibbs".
        restarts: number of starts of em and svi; None is 10.
        seed: of the starts.
        priors: maximum a posteriori rather than maximum likelihood; without, EM falls back on them only where every
            start collapses, and says so. SVI always has them.
        design: what the moves depend on, by multinomial logit; empty means the same moves at every step.
        chains: of nuts and gibbs; None is the sampler's own number, as for the next two.
        draws: of each chain, or of svi's guide.
        tune: draws of the warm-up of each chain.
        criterion: what the best of a range has least of; one of `inference.criteria.CRITERIA`.
    """

    states: str
    family: str
    stationary: bool = False
    method: str = "em"
    restarts: int | None = None
    seed: int = 0
    priors: bool = False
    design: Design = Design()
    chains: int | None = None
    draws: int | None = None
    tune: int | None = None
    criterion: str = "bic"

    def __post_init__(self) -> None:
        """Refuse options that the method has no use for."""
        idle = {"chains": self.chains, "tune": self.tune} if not self.sampler else {"restarts": self.restarts}
        if self.method == "em":
            idle["draws"] = self.draws
        for name, value in idle.items():
            if value is not None:
                raise ModelError(
                    f"--{name} must belong to the method, got {value} with --method {self.method}; leave it out."
                )
        if self.sampler and self.ranged:
            raise ModelError(
                f"states must be one number with --method {self.method}, got {self.states!r}; choose it with "
                "probseq select first."
            )

    @property
    def sampler(self) -> bool:
        """Whether the method draws from the posterior."""
        return self.method in ("nuts", "gibbs")

    @property
    def ranged(self) -> bool:
        """Whether there is something to choose."""
        return ":" in self.states

    def models(self, columns: tuple[str, ...] = ()) -> list[HMM]:
        """One for each number of states; a product takes the names of its columns, where those can be names."""
        initial = initial_laws.StationaryInitial() if self.stationary else initial_laws.FreeInitial()
        family = families.by_name(self.family)
        if isinstance(family, families.Product) and all(name.isidentifier() for name in columns):
            family = families.Product(family.families, columns) if len(columns) == len(family.families) else family
        moves = LogitTransitions(self.design) if self.design else FreeTransitions()
        return [HMM(k, family, initial=initial, transition=moves) for k in parse_states(self.states)]

    def read(self, file: Path, source: Source) -> Sequences:
        """The series of a file, as the family wants it."""
        symbols = self.family == "categorical"
        if is_fasta(file) and not symbols:
            raise ModelError(f"DNA must have the categorical family, got {self.family}; use --family categorical.")
        series = source.read(file, symbols=symbols, fitting=True)
        check_states(parse_states(self.states)[-1], series)
        return series

    def run(self, series: Sequences) -> Selection:
        """Fit them all."""
        asked = {"chains": self.chains, "draws": self.draws, "tune": self.tune}
        options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        options |= {"seed": self.seed, "progress": sys.stderr.isatty(), "criterion": self.criterion}
        if not self.sampler:
            options["restarts"] = self.starts
        if self.method == "em":
            options["priors"] = self.priors or None
        methods = {"em": em, "svi": svi, "nuts": nuts, "gibbs": gibbs}
        return select(self.models(series.columns), series, method=methods[self.method], **options)

    @property
    def starts(self) -> int:
        """Of em and svi."""
        return 10 if self.restarts is None else self.restarts


def run(file: Path, source: Source, search: Search, out: Path | None, as_json: bool) -> int:
    """Fit and print; the exit code."""
    models = search.models()
    if out is not None:
        check_writable(out, directory=True)
    series = search.read(file, source)
    selection = search.run(series)
    fit = by_one_name(selection.best) if search.sampler else selection.best
    records = candidate_records(selection) if search.ranged else ()
    made = source.of(series, records)
    if out is not None:
        fit.save(out)
        made.save(out)
    if as_json:
        write_stdout(json_text(fit, records))
    else:
        from probseq.cli.tables import print_fit

        print_fit(chapter_of(fit, made, series, file.name), out, file)
    return INTERRUPTED if was_interrupted(selection, len(models), search) else 0


def parse_states(text: str) -> range:
    """The numbers of states that "3" or "1:4" stand for.

    >>> parse_states("3"), parse_states("1:4")
    (range(3, 4), range(1, 5))
    """
    first, _, last = text.partition(":")
    try:
        low, high = int(first), int(last if ":" in text else first)
    except ValueError:
        low, high = 0, 0
    if not 1 <= low <= high:
        raise ModelError(f"states must be K or K1:K2 with 1 <= K1 <= K2, got {text!r}; write --states 3 or 1:4.")
    return range(low, high + 1)


def parse_design(covariates: str, seasons: Sequence[str]) -> Design:
    """What `--covariates` and `--season` say.

    >>> parse_design("wind, sun", ["year:2", "7"]).names[1:5]
    ('wind', 'sun', 'year_cos_1', 'year_sin_1')
    """
    names = tuple(name.strip() for name in covariates.split(",") if name.strip())
    return Design(names, tuple(_parse_season(text) for text in seasons))


def _parse_season(text: str) -> Season:
    period, _, harmonics = text.partition(":")
    try:
        length: Any = period if period in CALENDAR else float(period)
        return Season(length, int(harmonics) if ":" in text else 1)
    except ModelError:
        raise
    except ValueError:
        raise ModelError(
            f"a season must be year, week, day or a number of steps, with :H for H harmonics, got {text!r}; write "
            "--season year or --season year:2."
        ) from None


def check_states(states: int, series: Sequences) -> None:
    """Refuse more states than there are observations."""
    observed = int(series.step_observed.sum())
    if states > observed:
        raise ModelError(
            f"states must not be more than the observed steps, {observed}, got {states}; use fewer states or more data."
        )


def candidate_records(selection: Selection) -> tuple[dict[str, Any], ...]:
    """The table of models as plain records; null where a model failed."""
    return tuple(
        {str(name): finite(value) for name, value in record.items()} for record in selection.table.to_dict("records")
    )


def json_text(fit: Fit, candidates: tuple[dict[str, Any], ...]) -> str:
    """One JSON object on one line; what is not a number is null."""
    content = fit.summary() | ({"candidates": list(candidates)} if candidates else {})
    if fit.n_draws > 1:
        from probseq.diagnostics import posterior_summary

        content["posterior"] = posterior_summary(fit).to_dict("index")
    return json.dumps(finite(content), allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """NaN and infinities as None, whole floats that stand for counts as they are."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def chapter_of(fit: Fit, source: Source, series: Sequences, title: str, horizon: int | None = None) -> Any:
    """What tables and reports are made from."""
    from probseq.report import Chapter

    tried = pd.DataFrame(list(source.candidates)) if source.candidates else None
    if tried is not None:
        tried[["log_likelihood", "n_parameters", "aic", "bic"]] = tried[
            ["log_likelihood", "n_parameters", "aic", "bic"]
        ].astype(float)
    return Chapter(title, fit, series, source.unit, tried, source.command, source.seed, horizon)


def by_one_name(fit: Fit) -> Fit:
    """Draws of exchangeable states by the same names (Papastamoulis & Iliopoulos 2010); others as they are."""
    from probseq.diagnostics import relabel_ecr

    model = fit.model
    named = not isinstance(model, HMM) or not model.transition.exchangeable or model.states == 1
    labels = fit.data().labels
    if named or (labels is not None and bool((labels >= 0).any())):
        return fit
    return relabel_ecr(fit).fit


def was_interrupted(selection: Selection, models: int, search: Search) -> bool:
    """Whether Ctrl-C ended the search before its end."""
    if len(selection.candidates) < models:
        return True
    if search.sampler:
        return any(fit.stop_reason.startswith("interrupted") for fit in selection.fits)
    return any(
        len(fit.attempts) < search.starts
        or any(attempt.stop_reason.startswith("interrupted") for attempt in fit.attempts)
        for fit in selection.fits
    )
