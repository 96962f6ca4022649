"""Rows of symbols with those before them, against a loop over the steps."""

import numpy as np
import pytest

from probseq import kmers


@pytest.mark.parametrize("block", [1, 4, 1 << 20])
@pytest.mark.parametrize(("lags", "symbols", "width"), [(1, 2, 1), (2, 4, 1), (3, 4, 2), (8, 4, 4), (1, 256, 4)])
def test_rows_are_the_symbols_and_those_before(monkeypatch, block, lags, symbols, width) -> None:
    monkeypatch.setattr(kmers, "_BLOCK", block)
    rng = np.random.default_rng(lags)
    lengths = np.array([1, lags, 30, lags + 1, 2])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    codes = rng.integers(0, symbols, offsets[-1]).astype(np.uint8)
    missing = rng.random(offsets[-1]) < 0.1
    for gone in (missing, None):
        found = kmers.find_kmers(codes, gone, offsets, lags, symbols)
        assert found.index.dtype.itemsize == width and found.index.dtype.kind == "u"
        assert len(found.rows) == symbols ** (lags + 1) + 1 and found.missing_row == len(found.rows) - 1
        rows = found.rows.numpy()
        for start, end in zip(offsets, offsets[1:], strict=False):
            for step in range(start, end):
                before = range(step, step - lags - 1, -1)
                lacking = step - start < lags or (gone is not None and any(gone[s] for s in before))
                assert (found.index[step] == found.missing_row) == lacking
                if not lacking:
                    assert rows[found.index[step]].tolist() == [codes[s] for s in before]


def test_every_row_stands_once() -> None:
    rows = kmers.find_kmers(np.zeros(1, np.uint8), None, np.array([0, 1]), 2, 3).rows[:-1]
    assert len({tuple(row.tolist()) for row in rows}) == 27
