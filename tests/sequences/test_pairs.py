"""Inputs beside targets."""

import pytest
import torch

from probseq import DataError, Pairs, Sequences

INPUTS = Sequences.from_arrays([[0.1, 0.2], [0.3], [0.5, 0.4]])


def test_take_keeps_both_sides_together() -> None:
    targets = Sequences.from_arrays([[1.0], [2.0, 2.0], [3.0]])
    chosen = Pairs(INPUTS, targets).take(torch.tensor([2, 0]))
    assert isinstance(chosen.inputs, Sequences) and isinstance(chosen.targets, Sequences)
    assert chosen.inputs.values.tolist() == [0.5, 0.4, 0.1, 0.2] and chosen.targets.values.tolist() == [3.0, 1.0]
    images = Pairs(torch.arange(6).reshape(3, 2), torch.tensor([7, 8, 9])).take([False, True, True])
    assert isinstance(images.inputs, torch.Tensor) and images.inputs.tolist() == [[2, 3], [4, 5]]
    assert images.count == 2 and images.take(slice(1, None)).targets.tolist() == [9]  # type: ignore[union-attr]


def test_the_fingerprint_is_of_both_sides() -> None:
    first, other = (Pairs(INPUTS, torch.tensor(codes)) for codes in ([0, 1, 1], [0, 1, 0]))
    assert first.fingerprint() == Pairs(INPUTS, torch.tensor([0, 1, 1])).fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("targets", "classes", "words"),
    [
        (torch.tensor([0, 1]), None, "3 inputs and 2 targets"),
        (torch.tensor([0, 1, 2]), ("a", "b"), "got 2 at pair 2"),
        (torch.tensor([0.0, 1.0, 1.0]), ("a", "b"), "whole codes"),
    ],
)
def test_refused(targets: torch.Tensor, classes: tuple[str, ...] | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Pairs(INPUTS, targets, classes)


def test_names_instead_of_codes_are_refused() -> None:
    with pytest.raises(DataError, match="targets of Pairs must be Sequences or numbers"):
        Pairs(INPUTS, ["a", "b", "a"])  # type: ignore[arg-type]


def test_no_pair_is_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        Pairs(INPUTS, torch.tensor([0, 1, 1])).take([])
    with pytest.raises(DataError, match="0 inputs"):
        Pairs(torch.zeros(0, 2), torch.zeros(0))
