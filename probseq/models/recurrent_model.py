"""A recurrent network as the driver of a family: p(y_t | y_<t, x, v) = Family(parameters(h_t)).

One model, several tasks, by what h_t is made of:

    feedback "observed", no covariates    generative: each y_t is a target and the next input (teacher forcing)
    feedback "observed", covariates x     y_t depends on x_1..x_t and on past y
    feedback None, covariates x           labelling without dependence; a Bidirectional layer sees all of x
    feedback "predicted"                  output recurrence: the expected y_{t-1} is fed back, never y itself
    vector v                              conditional on what is fixed: as input, as initial state, or both
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.nn import functional

from probseq import families
from probseq.errors import ModelError
from probseq.families import Categorical, Family
from probseq.models.emission_step import check, observed_rows
from probseq.models.family_head import FamilyHead, require_drivable
from probseq.models.named_layer import CellOf, named_layer
from probseq.models.network import BATCH, WINDOW, Network, Scored, counted
from probseq.models.output_recurrence import output_recurrence
from probseq.models.recurrent_inputs import encode_series, make_cell, require_consistent
from probseq.models.step_examples import WholeExamples, pieces
from probseq.models.step_readers import Covariates, Numbers, Symbols, require_constant, require_series
from probseq.models.stopping import LengthLaw
from probseq.recurrent import RecurrentLayer, State
from probseq.recurrent.first_weights import weights_of_seed
from probseq.sequences import Sequences


class RecurrentModel(Network):
    """p(y_t | y_<t, x_1..x_t, v) = Family(parameters(h_t)), h_t of a recurrent layer.

    Inputs at step t: the fed-back y_{t-1}, the covariates x_t, the vector v, and what a LengthLaw tells. Numbers are
    standardised; symbols are one-hot or vectors. A missing y is not scored, and is fed back as zeros beside a flag that
    is 1 where y was observed; the same stands for the y before the first.

    Args:
        family: of an observation, with what it takes from data filled in (`Categorical(M)`).
        cell: the layer; or what makes it from the number of inputs, as `lambda inputs: LSTM(inputs, 32)`.
        columns: numbers in a vector-valued observation; 0 where it is a single number or symbol.
        feedback: of past y: "observed" (y_{t-1} itself), "predicted" (its expectation), or None.
        embedding: size of the learned vectors of fed-back symbols; None is one-hot.
        covariates: names of the columns x that enter at each step.
        vector: names of the covariate columns, constant along each sequence, that are v.
        vector_as: v is an extra "input" at each step, the initial "state" by a linear map, or "both".
        embeddings: of columns that hold codes 0, 1, ...: how many codes, and the size of their vectors.
        stopping: how a sequence ends by itself: "end" (an end symbol), a `LengthLaw`, or None, where lengths are given.
        dropout: the share of h_t that the output does not see, in training only.
        names: of the value columns, for what is simulated.
        categories: what the codes stand for, for what is simulated.
        seed: of the first weights.

    >>> from probseq.families import Gaussian
    >>> from probseq.recurrent import GRU
    >>> network = RecurrentModel(Gaussian(), lambda inputs: GRU(inputs, 8), seed=0)
    >>> network.log_prob(Sequences.from_arrays([[0.3, 1.2, 0.5], [0.1]])).shape
    torch.Size([2])
    """

    kind = "recurrent"

    def __init__(
        self,
        family: Family,
        cell: RecurrentLayer | CellOf,
        *,
        columns: int = 0,
        feedback: Literal["observed", "predicted"] | None = "observed",
        embedding: int | None = None,
        covariates: Sequence[str] = (),
        vector: Sequence[str] = (),
        vector_as: Literal["input", "state", "both"] = "input",
        embeddings: Mapping[str, Sequence[int]] | None = None,
        stopping: Literal["end"] | LengthLaw | None = None,
        dropout: float = 0.0,
        names: Sequence[str] = (),
        categories: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        event_shape = (columns,) if columns else ()
        require_drivable(family, event_shape)
        self.family, self.columns, self.feedback, self.embedding = family, columns, feedback, embedding
        self.vector_as, self.dropout = vector_as, dropout
        self.names, self.categories = tuple(names), None if categories is None else tuple(categories)
        self.reader = self._reader(embedding, seed)
        self.covariates = Covariates(covariates, embeddings, seed=seed + 1)
        self.vector = Covariates(vector, embeddings, seed=seed + 2)
        self.length_law = stopping if isinstance(stopping, LengthLaw) else None
        self.ends = stopping == "end"
        self.cell = make_cell(self, cell)
        require_consistent(self, stopping, embeddings or {})
        self.head = FamilyHead(family, self.cell.hidden_size, event_shape, seed=seed + 3)
        with weights_of_seed(seed + 4):
            self.stop = nn.Linear(self.cell.hidden_size, 1) if self.ends else None
            state = sum(map(math.prod, self.cell.state_shapes))
            self.first_state = nn.Linear(self.vector.width, state) if self._vector_in("state") else None

    @classmethod
    def for_series(
        cls,
        series: Sequences,
        family: Family | str,
        cell: str | RecurrentLayer | CellOf = "lstm",
        hidden_size: int = 64,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> RecurrentModel:
        """A model for data like these: the family bound to them, columns and categories as they have them.

        Args:
            series: what it is to learn from; `train` prepares the model for it.
            family: of an observation, or its name.
            cell: the kind of cell ("vanilla", "lstm", "gru"), the layer, or what makes it from the number of inputs.
            hidden_size: H, of each layer and direction; not of a cell that is given.
            layers: on top of each other, of a kind of cell.
            bidirectional: see the covariates of the future, too (feedback must be None).
            seed: of the first weights.
            options: the others of `RecurrentModel`.
        """
        family = families.by_name(family) if isinstance(family, str) else family
        family = family.bind(
            observed_rows(family, series), None if series.categories is None else len(series.categories)
        )

        made = named_layer(cell, hidden_size, layers=layers, bidirectional=bidirectional, seed=seed + 10)
        columns = 0 if series.values.ndim == 1 else series.values.shape[1]
        about = {"columns": columns, "names": series.columns, "categories": series.categories, "seed": seed}
        return cls(family, made, **{**about, **options})

    # ---- what training knows ---------------------------------------------------------------------------------------

    @property
    def input_width(self) -> int:
        """D, the numbers that enter the cell at each step."""
        fed = self.reader.width if self.feedback else 0
        vector = self.vector.width if self._vector_in("input") else 0
        return fed + self.covariates.width + vector + (self.length_law.width if self.length_law else 0)

    def encode(self, data: Sequences) -> WholeExamples:
        """The series as tensors; those of a causal layer have windows."""
        return encode_series(self, data, self.ends)

    @torch.no_grad()
    def prepare(self, data: Sequences) -> None:
        """Standardise what enters, and start from the law of all observations together; in place."""
        check(self.family, data)
        self.reader.prepare(data.values, data.observed)
        self.covariates.prepare(self.covariates.rows(data, "prepare"))
        rows = self.vector.rows(data, "prepare")
        self.vector.prepare(require_constant(rows, data, self.vector.names))
        self.head.prepare(observed_rows(self.family, data))
        if self.length_law is not None:
            self.length_law.prepare(data.lengths, data.weights)
        if self.stop is not None:
            self.stop.bias.fill_(math.log((data.count + 0.5) / (data.total_steps - data.count + 0.5)))

    def score(self, examples: WholeExamples, state: State | None = None) -> Scored:
        """log p of each sequence or window of it, weighted where the data are."""
        hidden, after = self.hidden(examples, state)
        by_sequence = examples.by_sequence(self.step_log_prob(examples, hidden))
        steps = examples.by_sequence(examples.steps["counted"].double())
        if "weight" in examples.each:
            weight = examples.each["weight"]
            by_sequence, steps = torch.where(weight > 0, weight * by_sequence, 0.0), weight * steps
        return Scored(by_sequence, steps, after)

    def log_prob(self, data: Sequences, batch_size: int = 256) -> Tensor:
        """(N,) float64 nats: log p(y_n | x_n, v_n), with its length where that has a law; not weighted."""
        return super().log_prob(replace(require_series(data), weights=None), batch_size)

    def hidden(self, examples: WholeExamples, state: State | None = None) -> tuple[Tensor, State]:
        """(T, H) the hidden vectors, and what goes on into the window after."""
        fixed = self.fixed_inputs(examples)
        if self.feedback == "predicted":
            padded, after = output_recurrence(self, examples, fixed, state)
        else:
            fed = [self.reader(examples.steps["previous"])] if self.feedback else []
            inputs = torch.cat([*(one.to(self.dtype) for one in fed), fixed], -1)
            before = self.start(examples) if state is None else state
            padded, after = self.cell.unroll(examples.padded(inputs), examples.lengths, before)
        return functional.dropout(examples.flat(padded), self.dropout, self.training), after

    def step_log_prob(self, examples: WholeExamples, hidden: Tensor) -> Tensor:
        """(T,) float64 nats of each step: of y_t where it is scored, of its not being the end, of the end, of T."""
        scored = examples.steps["scored"]
        values = examples.steps["values"]
        if bool(scored.all()):
            result = self.head.log_prob(hidden, values)
        else:
            found = self.head.log_prob(hidden[scored], values[scored])
            result = torch.zeros(len(scored), dtype=torch.float64, device=found.device).masked_scatter(scored, found)
        if self.stop is not None:
            logit = self.stop(hidden).squeeze(-1).double()
            end, first = examples.steps["end"], examples.steps["first"]
            going_on = torch.where(first, 0.0, functional.logsigmoid(-logit))
            result = result + torch.where(end, functional.logsigmoid(logit), going_on)
        if self.length_law is not None:
            result = result + examples.steps["length_log_prob"]
        return result

    # ---- the program -----------------------------------------------------------------------------------------------

    def program(self, data: Sequences) -> None:
        """The Pyro program: sites `y`, `end` or `length`; with an empty guide its ELBO is the sum of `log_prob`.

        Sequences with weights are scaled by them.
        """
        pyro.module("network", self)
        examples = self.encode(data)
        (hidden, _), steps, weight = self.hidden(examples), examples.steps, examples.each.get("weight")
        by_step = None if weight is None else weight[examples.sequence]
        with pyro.plate("step", len(hidden)), counted(by_step):
            with poutine.mask(mask=steps["scored"]):  # pyright: ignore[reportArgumentType]
                pyro.sample("y", self.head.distribution(hidden), obs=steps["values"])
            if self.stop is not None:
                going = dist.Bernoulli(logits=self.stop(hidden).squeeze(-1).double())
                with poutine.mask(mask=~steps["first"]):  # pyright: ignore[reportArgumentType]
                    pyro.sample("end", going, obs=steps["end"].double())
        if self.length_law is not None:
            law: Any = self.length_law.law
            with pyro.plate("sequence", examples.count), counted(weight):
                pyro.sample("length", law.expand([examples.count]), obs=(data.lengths - 1).double())

    # ---- answers ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predictive_log_prob(self, series: Sequences) -> Tensor:
        """(T,) float64 nats: log p(y_t | y_<t, x, v); zero at a missing step. Adds up to `log_prob`.

        log P(T) of a length law stands at the first step, the log chance of the end at the last.
        """
        examples = self.encode(series)
        found = torch.zeros(len(examples.sequence), dtype=torch.float64)
        for window, hidden in self._run(examples):
            found[window.steps["number"]] = self.step_log_prob(window, hidden)
        if not self.ends:
            return found
        end = examples.steps["end"]
        result = found[~end]
        result[series.offsets[1:] - 1] += found[end]
        return result

    @torch.no_grad()
    def predictive_parameters(self, series: Sequences) -> dict[str, Tensor]:
        """The family's parameters at each step, (T, *shape) float64; what all steps share as it is."""
        examples = self.encode(series)
        hidden = torch.zeros(len(examples.sequence), self.cell.hidden_size, dtype=self.dtype)
        for window, found in self._run(examples):
            hidden[window.steps["number"]] = found
        return self.head(hidden[~examples.steps["end"]] if self.ends else hidden)

    def predictive(self, series: Sequences) -> TorchDistributionMixin:
        """The law of y_t given y_<t, x and v, batch shape (T,)."""
        return self.family.distribution(**self.predictive_parameters(series))

    def simulate(
        self,
        lengths: int | Sequence[int] | Sequences | None = None,
        *,
        seed: int,
        count: int | None = None,
        vectors: Any = None,
        past: Sequences | None = None,
        longest: int = 10_000,
    ) -> Sequences:
        """New sequences, free running: what is drawn is fed back.

        Args:
            lengths: steps of each; or a series whose steps, times and covariates to simulate along; None lets each
                stop by itself, which a model with `stopping` does.
            seed: of the generator.
            count: how many, where they stop by themselves.
            vectors: (count, V) v of each, where they stop by themselves.
            past: sequences to go on from, one for each that is simulated; what comes back is what follows them.
            longest: an end symbol that has not come after so many steps is no longer waited for; a warning says so.
        """
        from probseq.models.free_running import simulate

        return simulate(self, lengths, seed, count, vectors, past, longest)

    def forecast(
        self,
        series: Sequences,
        horizon: int,
        quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        *,
        covariates: Any = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """The next `horizon` steps of every sequence, by 2000 simulated futures; columns as of `Fit.forecast`.

        Args:
            series: what has been seen.
            horizon: steps ahead, at least 1.
            quantiles: probabilities in (0, 1); columns `q0.05`, ... (of single numbers only).
            covariates: of the steps ahead, for a model with covariates: N * horizon rows, one sequence after the other.
            seed: of the simulated futures.
        """
        from probseq.models.free_running import forecast

        return forecast(self, series, horizon, quantiles, covariates, seed)

    # ---- words -----------------------------------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        embeddings = {
            name: list(sizes) for name, sizes in {**self.covariates.embeddings, **self.vector.embeddings}.items()
        }
        return {
            "family": self.family.to_json(),
            "cell": self.cell.description(),
            "columns": self.columns,
            "feedback": self.feedback,
            "embedding": self.embedding,
            "covariates": list(self.covariates.names),
            "vector": list(self.vector.names),
            "vector_as": self.vector_as,
            "embeddings": embeddings,
            "stopping": self.length_law.description() if self.length_law else "end" if self.ends else None,
            "dropout": self.dropout,
            "names": list(self.names),
            "categories": None if self.categories is None else list(self.categories),
        }

    @classmethod
    def rebuild(cls, description: dict[str, Any]) -> RecurrentModel:
        """The model that `description` describes, with weights of no account."""
        made = dict(description)
        family, cell = families.from_json(made.pop("family")), RecurrentLayer.rebuild(made.pop("cell"))
        stopping = made.pop("stopping")
        return cls(
            family, cell, stopping=LengthLaw.rebuild(stopping) if isinstance(stopping, dict) else stopping, **made
        )

    # ---- parts -----------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.head.linear.weight.dtype

    def start(self, examples: WholeExamples) -> State:
        """The cell's state before the first step: zeros, or of v."""
        if self.first_state is None:
            return self.cell.start(examples.count)
        flat, shapes = self.first_state(self.vector(examples.each["vector"]).to(self.dtype)), self.cell.state_shapes
        pieces = flat.split([math.prod(shape) for shape in shapes], -1)
        return tuple(piece.reshape(-1, *shape) for piece, shape in zip(pieces, shapes, strict=True))

    def fixed_inputs(self, examples: WholeExamples) -> Tensor:
        """(T, ...) what enters at each step whatever y is: covariates, v, and what the length law tells."""
        parts = [self.covariates(examples.steps["covariates"])]
        if self._vector_in("input"):
            parts.append(self.vector(examples.each["vector"])[examples.sequence.to(parts[0].device)])
        if self.length_law is not None:
            parts.append(examples.steps["told"])
        return torch.cat([part.to(self.dtype) for part in parts], -1)

    def _run(self, examples: WholeExamples) -> Iterator[tuple[WholeExamples, Tensor]]:
        """The hidden vectors as when all is learned: of a batch of sequences after the other, by windows."""
        was_training = self.training
        self.eval()
        try:
            state: State | None = None
            for piece, begins in pieces(examples, BATCH, WINDOW):
                hidden, state = self.hidden(piece, None if begins else state)
                yield piece, hidden
        finally:
            self.train(was_training)

    def _reader(self, embedding: int | None, seed: int) -> Numbers | Symbols:
        if isinstance(self.family, Categorical):
            return Symbols(self.family.categories or 1, embedding, seed=seed)
        if embedding is not None:
            raise ModelError(
                f"embedding must be None for {self.family.name}, got {embedding}; only symbols (Categorical) have it."
            )
        return Numbers(max(1, self.columns))

    def _vector_in(self, place: str) -> bool:
        return bool(self.vector.names) and self.vector_as in (place, "both")
