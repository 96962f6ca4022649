"""The states of four gene finders, from two states to the parts of a gene, and which of their laws are the same."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DONOR, ACCEPTOR = 6, 12
"""Bases at either end of an intron that have a law each."""


@dataclass(frozen=True)
class Structure:
    """States, of which the last stands for what is in no gene.

    Attributes:
        opposite: what each state is on the other strand.
        codes: (K,) whether its bases code.
        frame: the coding states of the + strand, which follow one another.
        law: (K,) number of the law of its bases; states with the same number share it.
        site: (K,) whether it is one base of a site, too rare to learn how it depends on those before.
        tied: groups of moves that are equally probable, and there are no others; none given, each is counted by itself.
    """

    opposite: tuple[int, ...]
    codes: tuple[bool, ...]
    frame: tuple[int, ...]
    law: tuple[int, ...]
    site: tuple[bool, ...]
    tied: tuple[tuple[tuple[int, int], ...], ...] = ()

    def spell(self, exons: Sequence[int], introns: Sequence[int]) -> np.ndarray:
        """The states of a gene of the + strand, from the lengths of its coding exons and the introns between."""
        place, parts = 0, []
        for exon, intron in itertools.zip_longest(exons, introns, fillvalue=0):
            parts.append(np.array(self.frame)[np.arange(place, place + exon) % len(self.frame)])
            place += exon
            parts.append(self.intron((place - 1) % 3, intron))
        return np.concatenate(parts)

    def intron(self, after: int, length: int) -> np.ndarray:
        """The states of an intron after the first, second or third base of a codon."""
        return np.full(length, len(self.opposite) - 1)


def plain(opposite: tuple[int, ...], frame: tuple[int, ...]) -> Structure:
    """Every state with a law of its own, introns being like what is in no gene."""
    states = len(opposite)
    codes = tuple(state < states - 1 for state in range(states))
    return Structure(opposite, codes, frame, tuple(range(states)), (False,) * states)


@dataclass(frozen=True)
class GeneStructure(Structure):
    """Start, codons and stop, and introns that remember which base of a codon they cut and begin and end with a site.

    An intron may follow any of the three bases, its law being the same.
    """

    def spell(self, exons: Sequence[int], introns: Sequence[int]) -> np.ndarray:
        found = super().spell(exons, introns)
        bases = np.flatnonzero(np.array(self.codes)[found])
        found[bases[:3]], found[bases[-3:]] = (0, 1, 2), (6, 7, 8)
        return found

    def intron(self, after: int, length: int) -> np.ndarray:
        donor, inside, acceptor = intron_states(after)
        between = [inside] * (length - DONOR - ACCEPTOR)
        return np.array([*donor, *between, *acceptor] if length else [], dtype=np.int64)


def intron_states(after: int) -> tuple[list[int], int, list[int]]:
    """Those of the donor site, the inside and the acceptor site; start, codon and stop have the first nine numbers."""
    first = 9 + after * (DONOR + 1 + ACCEPTOR)
    donor = list(range(first, first + DONOR))
    return donor, first + DONOR, list(range(first + DONOR + 1, first + DONOR + 1 + ACCEPTOR))


def genes() -> GeneStructure:
    """133 states: those of the + strand, those of the - strand, and the one in no gene."""
    introns = [intron_states(after) for after in range(3)]
    half = introns[-1][2][-1] + 1
    outside = 2 * half
    opposite = (*range(half, outside), *range(half), outside)
    chain = [outside, 0, 1, 2, 3, 4, 5, 6, 7, 8, outside]  # start, one codon, stop
    ties = [[move] for move in (*itertools.pairwise(chain), (5, 3))]
    paths = [[3 + after, *introns[after][0], introns[after][1]] for after in range(3)]
    ties += [list(group) for group in zip(*map(itertools.pairwise, paths), strict=True)]
    paths = [[introns[after][1], *introns[after][2], 3 + (after + 1) % 3] for after in range(3)]
    ties += [list(group) for group in zip(*map(itertools.pairwise, paths), strict=True)]
    ties.append([(inside, inside) for _, inside, _ in introns])
    mirrored = [[(opposite[j], opposite[i]) for i, j in group] for group in ties]
    law, site = np.arange(half), np.ones(half, dtype=bool)
    for donor, inside, acceptor in introns:
        law[donor], law[inside], law[acceptor] = introns[0][0], outside, introns[0][2]
        site[[3, 4, 5, inside]] = False
    other = np.where(law == outside, outside, law + half)
    return GeneStructure(
        opposite=opposite,
        codes=tuple(state < outside and state % half < 9 for state in range(outside + 1)),
        frame=(3, 4, 5),
        law=(*law.tolist(), *other.tolist(), outside),
        site=(*site.tolist(), *site.tolist(), False),
        tied=tuple(tuple(group) for group in (*ties, *mirrored, [(outside, outside)])),
    )


STRUCTURES = {
    "two states": plain((0, 1), (0,)),
    "strands": plain((1, 0, 2), (0,)),
    "codons": plain((3, 4, 5, 0, 1, 2, 6), (0, 1, 2)),
    "genes": genes(),
}
