"""Cells in: a column of a table becomes numbers, symbol codes or labels, or the first cell that cannot is named."""

import difflib
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from probseq.errors import DataError
from probseq.io.times import Locate

MOST_SYMBOLS = 256
MOST_STATES = 2**31


def read_numbers(column: pd.Series, what: str, locate: Locate) -> np.ndarray:
    """The column (T,) as float64, NaN where missing; True and False are 1 and 0, a blank text is missing.

    Raises:
        DataError: for text that is no number, or an infinite value, naming the first and its row.
    """
    name = f"{what} {column.name!r}"
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if column.dtype.kind in "mMc" or isinstance(column.dtype, pd.PeriodDtype | pd.DatetimeTZDtype):
        raise DataError(f"{name} must hold numbers, got {column.dtype} at {locate(0)}; name a numeric column.")
    if column.dtype.kind in "biuf":
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        numbers = _parsed(column, what, locate)
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(infinite.argmax())
        raise DataError(
            f"{name} must be finite, got {numbers[row]} at {locate(row)}; replace it, or leave it empty if it is"
            " missing."
        )
    return numbers


def _parsed(column: pd.Series, what: str, locate: Locate) -> np.ndarray:
    cells = column.astype(object)
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    blank = cells.isna() | cells.map(lambda cell: isinstance(cell, str) and not cell.strip())
    text = np.isnan(numbers) & ~blank.to_numpy(dtype=bool)
    if not text.any():
        return numbers
    row = int(text.argmax())
    cell = cells.iloc[row]
    if isinstance(cell, str) and re.fullmatch(r"[-+]?[\d.,\s]+", cell.strip()):
        remedy = "write decimals with a point and thousands without a separator"
    elif what == "value" and text.sum() + blank.sum() == len(cells):
        remedy = "pass symbols=True to read the texts as categories"
    else:
        remedy = "write a number, or leave it empty if it is missing"
    raise DataError(f"{what} {column.name!r} must hold numbers, got {_shown(cell)} at {locate(row)}; {remedy}.")


def read_symbols(
    column: pd.Series, symbols: bool | Sequence[str], locate: Locate
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Codes (T,) uint8, their observed mask or None, and the category names that the codes stand for.

    Args:
        column: texts, categories or whole numbers.
        symbols: the names in the order of their codes; True or False for a categorical's own order, or sorted.
    """
    name = f"value {column.name!r}"
    fixed = None if isinstance(symbols, bool) else tuple(str(symbol) for symbol in symbols)
    if isinstance(column.dtype, pd.CategoricalDtype) and fixed is None:
        codes, names = column.cat.codes.to_numpy(), tuple(_name(category) for category in column.cat.categories)
    else:
        codes, found = pd.factorize(column, sort=fixed is None)
        names = tuple(_name(category) for category in found)
        if fixed is not None:
            codes = _recoded(codes, names, fixed, name, locate)
            names = fixed
    if len(names) > MOST_SYMBOLS:
        raise DataError(
            f"{name} must have at most {MOST_SYMBOLS} categories, got {len(names)}; read it as numbers, or merge rare"
            " categories."
        )
    missing = codes < 0
    if missing.all():
        raise DataError(
            f"{name} must have at least one observed row, got only missing ones in {len(column)}; choose another"
            " column."
        )
    return np.where(missing, 0, codes).astype(np.uint8), ~missing if missing.any() else None, names


def _recoded(
    codes: np.ndarray, names: tuple[str, ...], fixed: tuple[str, ...], what: str, locate: Locate
) -> np.ndarray:
    if len(set(fixed)) < len(fixed):
        raise DataError(f"symbols must be different from each other, got {', '.join(fixed)}; name each once.")
    place = {symbol: number for number, symbol in enumerate(fixed)}
    table = np.array([*(place.get(name, -2) for name in names), -1])
    recoded = table[codes]
    if (recoded == -2).any():
        row = int((recoded == -2).argmax())
        got = names[codes[row]]
        close = difflib.get_close_matches(got, fixed, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "add it to symbols, or leave it empty if it is missing"
        raise DataError(f"{what} must be one of {', '.join(fixed)}, got {got!r} at {locate(row)}; {hint}.")
    return recoded


def _name(category: object) -> str:
    if isinstance(category, float) and category.is_integer():
        return str(int(category))
    return str(category)


def read_labels(column: pd.Series, locate: Locate) -> np.ndarray:
    """The known state of each row (T,) int64, -1 where unknown; a categorical column gives its codes."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(dtype=np.int64)
    numbers = read_numbers(column, "label", locate)
    numbers = np.where(np.isnan(numbers), -1.0, numbers)
    bad = (numbers != np.rint(numbers)) | (numbers < -1) | (numbers > MOST_STATES)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"label {column.name!r} must be a state's number from 0, or -1 or empty where unknown, got {numbers[row]:g}"
            f" at {locate(row)}; number the states from 0."
        )
    return numbers.astype(np.int64)


def _shown(cell: object) -> str:
    text = repr(cell)
    return text if len(text) <= 60 else text[:57] + "..."
