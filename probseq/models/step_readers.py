"""How what is known at a step enters a network: numbers standardised, symbols as vectors, what is missing as zeros.

What is missing is fed as zero beside a flag, 1 where observed, so that a network can tell it from a true zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from probseq.errors import DataError, ModelError
from probseq.recurrent.first_weights import weights_of_seed
from probseq.recurrent.layer import require_sizes
from probseq.sequences import Sequences


class Numbers(nn.Module):
    """Numbers in standard deviations from their mean, each beside its flag.

    Args:
        columns: D numbers at each step.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns, self.width = columns, 2 * columns
        self.register_buffer("shift", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(columns, dtype=torch.float64))

    def prepare(self, values: Tensor, observed: Tensor | None) -> None:
        """Take mean and standard deviation from what was observed of values (T,) or (T, D)."""
        rows = _columns(values).double()
        there = torch.ones(rows.shape, dtype=torch.bool) if observed is None else _columns(observed)
        for d in range(self.columns):
            seen = rows[:, d][there[:, d]]
            if len(seen):
                self.shift[d], self.scale[d] = seen.mean(), _width(seen)

    def encode(self, values: Tensor, observed: Tensor | None) -> Tensor:
        """(T, 2 D) float64: standardised values, zero where missing, then flags."""
        rows = (_columns(values).double() - self.shift) / self.scale
        flags = torch.ones_like(rows) if observed is None else _columns(observed).to(rows.dtype).expand_as(rows)
        return torch.cat([torch.where(flags > 0, rows, 0.0), flags], -1)

    def absent(self, count: int) -> Tensor:
        """(count, 2 D) nothing observed."""
        return self.shift.new_zeros(count, self.width)

    def expected(self, expectation: Tensor) -> Tensor:
        """(B, 2 D) an expected observation in the place of one; differentiable."""
        return self.encode(expectation, None)

    def forward(self, encoded: Tensor) -> Tensor:
        """(..., 2 D) as the network reads it."""
        return encoded


class Symbols(nn.Module):
    """Symbols as learned vectors, or one-hot; beside the flag.

    Args:
        symbols: M.
        size: of the vectors; None is one-hot.
        seed: of the first vectors.
    """

    vectors: Tensor

    def __init__(self, symbols: int, size: int | None = None, *, seed: int = 0) -> None:
        super().__init__()
        if size is not None:
            require_sizes(self, embedding=size)
        self.symbols, self.size = symbols, size
        self.width = (symbols if size is None else size) + 1
        if size is None:
            self.register_buffer("vectors", torch.eye(symbols), persistent=False)
        else:
            with weights_of_seed(seed):
                self.vectors = nn.Parameter(torch.randn(symbols, size) / size**0.5)

    def prepare(self, values: Tensor, observed: Tensor | None) -> None:
        """Nothing: symbols have no scale."""

    def encode(self, values: Tensor, observed: Tensor | None) -> Tensor:
        """(T,) int64 codes, M where missing."""
        codes = values.long()
        return codes if observed is None else torch.where(observed, codes, self.symbols)

    def absent(self, count: int) -> Tensor:
        """(count,) M."""
        return torch.full((count,), self.symbols, device=self.vectors.device)

    def expected(self, expectation: Tensor) -> Tensor:
        """(B, E + 1) the mean vector under probabilities (B, M), as the network reads it; differentiable."""
        mean = expectation.to(self.vectors.dtype) @ self.vectors
        return torch.cat([mean, torch.ones_like(mean[:, :1])], -1)

    def forward(self, encoded: Tensor) -> Tensor:
        """(..., E + 1) as the network reads it; what was read already stays as it is."""
        if encoded.is_floating_point():
            return encoded
        flagged = functional.pad(self.vectors, (0, 1), value=1.0)  # a flag beside every symbol,
        return functional.embedding(encoded, functional.pad(flagged, (0, 0, 0, 1)))  # and zeros for none


class Covariates(nn.Module):
    """Covariates of a step: numbers standardised, columns of codes as vectors.

    Args:
        names: of the columns.
        embeddings: of columns that hold codes 0, 1, ..., how many codes there are and the size of their vectors.
        seed: of the first vectors.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, names: Sequence[str], embeddings: Mapping[str, Sequence[int]] | None = None, *, seed: int = 0
    ) -> None:
        super().__init__()
        coded = dict(embeddings or {})
        for name, sizes in coded.items():
            if len(sizes) != 2 or min(sizes) < 1:
                raise ModelError(
                    f"embeddings must say how many codes there are and the size of their vectors, got {sizes!r} for "
                    f"{name}; write {{{name!r}: (7, 3)}}."
                )
        self.names = (names,) if isinstance(names, str) else tuple(names)
        self.numeric = [name for name in self.names if name not in coded]
        self.coded = [name for name in self.names if name in coded]
        self.embeddings = {name: (int(coded[name][0]), int(coded[name][1])) for name in self.coded}
        with weights_of_seed(seed):
            self.tables = nn.ModuleList(nn.Embedding(*self.embeddings[name]) for name in self.coded)
        self.width = len(self.numeric) + sum(size for _, size in self.embeddings.values())
        self.register_buffer("shift", torch.zeros(len(self.numeric), dtype=torch.float64))
        self.register_buffer("scale", torch.ones(len(self.numeric), dtype=torch.float64))

    def prepare(self, rows: Tensor) -> None:
        """Take mean and standard deviation from rows (R, C) of the columns named."""
        for k, name in enumerate(self.numeric):
            column = rows[:, self.names.index(name)]
            self.shift[k], self.scale[k] = column.mean(), _width(column)

    def rows(self, series: Sequences, where: str) -> Tensor:
        """(T, C) float64 the columns named, in their order.

        Raises:
            DataError: the series lacks one, or holds what is no code of it.
        """
        lacking = [name for name in self.names if name not in series.covariate_names]
        if lacking:
            raise DataError(
                f"the series must have the covariates {', '.join(self.names)}, got none named {lacking[0]!r} at "
                f"{where}; read it with them."
            )
        if series.covariates is None or not self.names:
            return torch.zeros(series.total_steps, 0, dtype=torch.float64)
        rows = series.covariates[:, [series.covariate_names.index(name) for name in self.names]]
        for name, (codes, _) in self.embeddings.items():
            column = rows[:, self.names.index(name)]
            bad = ((column < 0) | (column >= codes) | (column != column.floor())).nonzero()
            if len(bad):
                raise DataError(
                    f"covariate {name} must be a code from 0 to {codes - 1}, got {float(column[bad[0, 0]]):g} at step "
                    f"{int(bad[0, 0])}; give the network as many codes as the data have."
                )
        return rows

    def forward(self, rows: Tensor) -> Tensor:
        """(..., width) as the network reads rows (..., C)."""
        if not self.names:
            return rows
        numeric = rows[..., [self.names.index(name) for name in self.numeric]]
        parts = [(numeric - self.shift) / self.scale]
        for name, table in zip(self.coded, self.tables, strict=True):
            parts.append(table(rows[..., self.names.index(name)].long()))
        return torch.cat(parts, -1)


def require_constant(rows: Tensor, series: Sequences, names: Sequence[str]) -> Tensor:
    """(N, C) the value of each column in each sequence.

    Raises:
        DataError: a column changes within a sequence.
    """
    first = rows[series.offsets[:-1]]
    bad = (rows != first[series.step_sequence]).nonzero()
    if len(bad):
        step, column = int(bad[0, 0]), int(bad[0, 1])
        raise DataError(
            f"covariate {names[column]} must be the same at all steps of a sequence to be its vector, got "
            f"{float(rows[step, column]):g} at step {step}; give it as a covariate of each step instead."
        )
    return first


def require_symbols(values: Tensor, symbols: int) -> None:
    """Refuse codes that are not among 0..M-1."""
    bad = (values < 0) | (values >= symbols)
    if values.is_floating_point():
        bad |= values != values.floor()
    if bool(bad.any()):
        raise DataError(
            f"symbols must be codes from 0 to {symbols - 1}, got {float(values[bad][0]):g} among the values; read the "
            "series with the categories of the one that the network was made for."
        )


def require_categories(series: Sequences, known: tuple[str, ...] | None) -> None:
    """Refuse symbols that are coded otherwise than those that the network was made for."""
    given = series.categories
    if known is not None and given is not None and known != given:
        raise DataError(
            f"symbols must be coded as the network has them, {'/'.join(known[:6])}..., got {'/'.join(given[:6])}... in "
            "the series; read it with categories=network.categories."
        )


def require_series(data: Any) -> Sequences:
    """The data, or a DataError where they are no series."""
    if not isinstance(data, Sequences):
        raise DataError(f"a series must be Sequences, got {type(data).__name__}; make them by Sequences.from_arrays.")
    return data


def require_columns(series: Sequences, columns: int) -> None:
    """Refuse what is no series, or one of other columns than the network was made for."""
    require_series(series)
    got = 0 if series.values.ndim == 1 else series.values.shape[1]
    if got != columns:
        wanted = f"{columns} columns" if columns else "single numbers or symbols"
        raise DataError(
            f"a series must hold {wanted} at each step, got {f'{got} columns' if got else 'single ones'} "
            f"({', '.join(series.columns)}); give what the network was made for."
        )


def _columns(values: Tensor) -> Tensor:
    return values.unsqueeze(-1) if values.ndim == 1 else values


def _width(values: Tensor) -> Tensor:
    """Standard deviation, 1 where there is none."""
    width = values.std(correction=0)
    return torch.where(width > 0, width, 1.0)
