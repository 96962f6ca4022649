"""One answer for a whole sequence: p(y | x_1..x_T) = Family(parameters(g)), g the last hidden vector or the mean one.

With a Categorical family this is classification (activities, speakers); with any other a real-valued or counted answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pandas as pd
import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.nn import functional

from probseq import families
from probseq.errors import DataError, ModelError
from probseq.families import Categorical, Family
from probseq.models.family_head import FamilyHead
from probseq.models.named_layer import CellOf, made_layer, named_layer
from probseq.models.network import Network, Scored, answering, counted
from probseq.models.step_examples import WholeExamples
from probseq.models.step_readers import (
    Covariates,
    Numbers,
    Symbols,
    require_categories,
    require_columns,
    require_symbols,
)
from probseq.pairs import Pairs
from probseq.recurrent import Bidirectional, RecurrentLayer, State
from probseq.sequences import Sequences

POOLINGS = ("last", "mean")


class SequenceClassifier(Network):
    """p(y | x_1..x_T): a recurrent layer over the values and covariates of a sequence, and one answer at its end.

    Numbers are standardised, symbols are one-hot or vectors; what is missing is zero beside a flag that is 1 where
    observed.

    Args:
        family: of the answer, with what it takes from data filled in (`Categorical(M)`).
        cell: the layer, causal or not; or what makes it from the number of inputs: `lambda inputs: LSTM(inputs, 32)`.
        columns: numbers at each step of the input; 0 where it is a single number or symbol.
        symbols: how many symbols the input has; None for numbers.
        categories: what their codes stand for.
        embedding: size of their learned vectors; None is one-hot.
        covariates: names of columns that enter besides.
        embeddings: of covariates that hold codes: how many codes, and the size of their vectors.
        pooling: "last" takes the last hidden vector, of a bidirectional layer the last of each direction; "mean" the
            mean of all steps.
        dropout: the share of the pooled vector that the output does not see, in training only.
        answers: numbers in a vector-valued answer; 0 where it is a single number or class.
        classes: what the codes of the answer stand for.
        seed: of the first weights.

    >>> from probseq.recurrent import GRU
    >>> network = SequenceClassifier(Categorical(2), lambda inputs: GRU(inputs, 8), classes=("a", "b"))
    >>> network.predict_proba(Sequences.from_arrays([[0.3, 1.2, 0.5], [0.1]])).shape
    (2, 2)
    """

    kind = "sequence_classifier"

    def __init__(
        self,
        family: Family,
        cell: RecurrentLayer | CellOf,
        *,
        columns: int = 0,
        symbols: int | None = None,
        categories: Sequence[str] | None = None,
        embedding: int | None = None,
        covariates: Sequence[str] = (),
        embeddings: Mapping[str, Sequence[int]] | None = None,
        pooling: Literal["last", "mean"] = "last",
        dropout: float = 0.0,
        answers: int = 0,
        classes: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.family, self.columns, self.symbols, self.embedding = family, columns, symbols, embedding
        self.pooling, self.dropout, self.answers = pooling, dropout, answers
        self.classes = None if classes is None else tuple(classes)
        self.categories = None if categories is None else tuple(categories)
        self._check(covariates, embeddings or {})
        self.reader = Numbers(max(1, columns)) if symbols is None else Symbols(symbols, embedding, seed=seed)
        self.covariates = Covariates(covariates, embeddings, seed=seed + 1)
        width = self.reader.width + self.covariates.width
        self.cell = made_layer(cell, width)
        if self.cell.input_size != width:
            raise ModelError(
                f"input_size of the cell must be {width} (values with their flags, covariates), got "
                f"{self.cell.input_size}; give the cell as a function of it: lambda inputs: LSTM(inputs, 32)."
            )
        self.head = FamilyHead(family, self.cell.hidden_size, (answers,) if answers else (), seed=seed + 2)

    @classmethod
    def for_pairs(
        cls,
        pairs: Pairs,
        family: Family | None = None,
        cell: str | RecurrentLayer | CellOf = "lstm",
        hidden_size: int = 64,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> SequenceClassifier:
        """A network for data like these.

        Args:
            pairs: sequences and their answers; `train` prepares the network for them.
            family: of the answer; None is a class of those that `pairs` names, or has.
            cell: the kind of cell ("vanilla", "lstm", "gru"), the layer, or what makes it from the number of inputs.
            hidden_size: H, of each layer and direction; not of a layer that is given.
            layers: on top of each other.
            bidirectional: read each sequence from both ends.
            seed: of the first weights.
            options: the others of `SequenceClassifier`.
        """
        inputs, targets = _sides(pairs)
        known = None if pairs.classes is None else len(pairs.classes)
        family = Categorical() if family is None else family
        about = {
            "columns": 0 if inputs.values.ndim == 1 else inputs.values.shape[1],
            "symbols": None if inputs.categories is None else len(inputs.categories),
            "categories": inputs.categories,
            "answers": 0 if targets.ndim == 1 else targets.shape[1],
            "classes": pairs.classes,
            "seed": seed,
        }
        made = named_layer(cell, hidden_size, layers=layers, bidirectional=bidirectional, seed=seed + 10)
        return cls(family.bind(targets.double(), known), made, **{**about, **options})

    # ---- what training knows ---------------------------------------------------------------------------------------

    def encode(self, data: Pairs | Sequences) -> WholeExamples:
        """Sequences, with their answers where there are any, as tensors."""
        inputs, targets = _sides(data) if isinstance(data, Pairs) else (data, None)
        require_columns(inputs, self.columns)
        require_categories(inputs, self.categories)
        if isinstance(self.reader, Symbols):
            require_symbols(inputs.values, self.reader.symbols)
        steps = {
            "inputs": self.reader.encode(inputs.values, inputs.observed),
            "covariates": self.covariates.rows(inputs, "its steps"),
        }
        each = {} if inputs.weights is None else {"weight": inputs.weights}
        if targets is not None:
            self._check_targets(targets, data.classes if isinstance(data, Pairs) else None)
            each["target"] = targets.double()
        return WholeExamples(steps, each, inputs.lengths)

    @torch.no_grad()
    def prepare(self, data: Pairs) -> None:
        """Standardise what enters, and start from the law of all answers together; in place."""
        inputs, targets = _sides(data)
        self.family.check(targets.double(), columns=["target"], where=lambda n: f"pair {n}")
        self.reader.prepare(inputs.values, inputs.observed)
        self.covariates.prepare(self.covariates.rows(inputs, "prepare"))
        self.head.prepare(targets.double())

    def score(self, examples: WholeExamples, state: State | None = None) -> Scored:
        """log p of each answer, weighted where the data are."""
        logs = self.head.log_prob(self.pooled(examples), examples.each["target"])
        weight = examples.each.get("weight", torch.ones_like(logs))
        return Scored(torch.where(weight > 0, weight * logs, 0.0), weight)

    def log_prob(self, data: Pairs, batch_size: int = 256) -> Tensor:
        """(N,) float64 nats: log p(y_n | x_n); not weighted."""
        inputs, _ = _sides(data)
        return super().log_prob(replace(data, inputs=replace(inputs, weights=None)), batch_size)

    def program(self, data: Pairs) -> None:
        """The Pyro program with the answers as its site `y`; with an empty guide its ELBO is the sum of `log_prob`."""
        pyro.module("network", self)
        examples = self.encode(data)
        with pyro.plate("sequence", examples.count), counted(examples.each.get("weight")):
            pyro.sample("y", self.head.distribution(self.pooled(examples)), obs=examples.each["target"])

    def pooled(self, examples: WholeExamples) -> Tensor:
        """(N, H) the vector that stands for each sequence."""
        inputs = torch.cat(
            [
                self.reader(examples.steps["inputs"]).to(self.dtype),
                self.covariates(examples.steps["covariates"]).to(self.dtype),
            ],
            -1,
        )
        hidden, _ = self.cell.unroll(examples.padded(inputs), examples.lengths)
        if self.pooling == "mean":
            found = hidden.sum(1) / examples.lengths.to(hidden.device, hidden.dtype).unsqueeze(-1)
        else:
            found = hidden[torch.arange(len(hidden)), (examples.lengths - 1).to(hidden.device)]
            if isinstance(self.cell, Bidirectional):  # the backward cell has seen all of it at the first step
                forward = self.cell.past.hidden_size
                found = torch.cat([found[:, :forward], hidden[:, 0, forward:]], -1)
        return functional.dropout(found, self.dropout, self.training)

    # ---- answers ---------------------------------------------------------------------------------------------------

    def predictive_parameters(self, series: Pairs | Sequences, batch_size: int = 256) -> dict[str, Tensor]:
        """The family's parameters for each sequence, (N, *shape) float64; what all share as it is."""
        inputs = series if isinstance(series, Sequences) else _sides(series)[0]
        examples = self.encode(inputs)
        with answering(self):
            vectors = [self.pooled(examples.take(index)) for index in torch.arange(inputs.count).split(batch_size)]
            return self.head(torch.cat(vectors))

    def predictive(self, series: Pairs | Sequences) -> TorchDistributionMixin:
        """The law of the answer to each sequence, batch shape (N,)."""
        return self.family.distribution(**self.predictive_parameters(series))

    def predict_proba(self, series: Pairs | Sequences) -> pd.DataFrame:
        """The probability of each class, a row for each sequence by its id, a column for each class."""
        if not isinstance(self.family, Categorical):
            raise ModelError(
                f"predict_proba must be asked of classes, got answers of {self.family.name}; ask predictive instead."
            )
        shares = self.predictive_parameters(series)["probabilities"]
        names = self.classes or tuple(str(code) for code in range(shares.shape[1]))
        inputs = series if isinstance(series, Sequences) else _sides(series)[0]
        return pd.DataFrame(shares.numpy(), index=inputs.ids, columns=pd.Index(names))

    def predict(self, series: Pairs | Sequences) -> Tensor:
        """(N,) int64 the most probable class of each sequence."""
        return torch.from_numpy(self.predict_proba(series).to_numpy().argmax(1))

    # ---- words -----------------------------------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        return {
            "family": self.family.to_json(),
            "cell": self.cell.description(),
            "columns": self.columns,
            "symbols": self.symbols,
            "categories": None if self.categories is None else list(self.categories),
            "embedding": self.embedding,
            "covariates": list(self.covariates.names),
            "embeddings": {name: list(sizes) for name, sizes in self.covariates.embeddings.items()},
            "pooling": self.pooling,
            "dropout": self.dropout,
            "answers": self.answers,
            "classes": None if self.classes is None else list(self.classes),
        }

    @classmethod
    def rebuild(cls, description: dict[str, Any]) -> SequenceClassifier:
        """The network that `description` describes, with weights of no account."""
        made = dict(description)
        return cls(families.from_json(made.pop("family")), RecurrentLayer.rebuild(made.pop("cell")), **made)

    # ---- parts -----------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.head.linear.weight.dtype

    def _check(self, covariates: Sequence[str], embeddings: Mapping[str, Any]) -> None:
        if self.pooling not in POOLINGS:
            raise ModelError(f"pooling must be one of {', '.join(POOLINGS)}, got {self.pooling!r}; choose one.")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"dropout must be in [0, 1), got {self.dropout} at SequenceClassifier; choose the share.")
        if self.embedding is not None and self.symbols is None:
            raise ModelError(f"embedding must be None where inputs are numbers, got {self.embedding}; leave it out.")
        unknown = sorted(set(embeddings) - set(covariates))
        if unknown:
            raise ModelError(f"embeddings must be of columns among covariates, got {unknown[0]!r}; name it there, too.")

    def _check_targets(self, targets: Tensor, classes: tuple[str, ...] | None) -> None:
        shape = (self.answers,) if self.answers else ()
        if tuple(targets.shape[1:]) != shape:
            raise DataError(
                f"targets must have shape {('N', *shape)}, got {tuple(targets.shape)}; give one answer a sequence."
            )
        if targets.is_floating_point() and not bool(targets.isfinite().all()):
            raise DataError("targets must be finite, got NaN or infinity; leave out sequences without an answer.")
        if classes is not None and self.classes is not None and classes != self.classes:
            raise DataError(
                f"classes must be those that the network was made for, {'/'.join(self.classes)}, got "
                f"{'/'.join(classes)}; code the targets in the same order."
            )


def _sides(pairs: Pairs) -> tuple[Sequences, Tensor]:
    """The sequences and the answers."""
    if not isinstance(pairs, Pairs) or not isinstance(pairs.inputs, Sequences) or not isinstance(pairs.targets, Tensor):
        raise DataError(
            f"a classifier of sequences must learn from Pairs of Sequences and a tensor (N,), got {pairs!r}; give one "
            "answer for each sequence."
        )
    return pairs.inputs, pairs.targets
