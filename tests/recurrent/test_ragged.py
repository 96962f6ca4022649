"""Ragged tensors against plain lists."""

import torch

from probseq.recurrent import Ragged

ROWS = [[1.0, 2.0, 3.0], [], [4.0], [5.0, 6.0]]
RAGGED = Ragged(torch.tensor([value for row in ROWS for value in row]), torch.tensor([len(row) for row in ROWS]))


def rows(ragged: Ragged) -> list[list[float]]:
    return [part.tolist() for part in ragged.values.split(ragged.lengths.tolist())]


def test_padding_and_back() -> None:
    assert RAGGED.padded().tolist() == [row + [0.0] * (3 - len(row)) for row in ROWS]
    assert torch.equal(RAGGED.flat(RAGGED.padded()), RAGGED.values)


def test_taking_and_windows_are_those_of_lists() -> None:
    assert rows(RAGGED.take(torch.tensor([3, 1, 0, 3]))) == [ROWS[3], ROWS[1], ROWS[0], ROWS[3]]
    for start in range(4):
        for stop in range(start, 5):
            assert rows(RAGGED.window(start, stop)) == [row[start:stop] for row in ROWS]
