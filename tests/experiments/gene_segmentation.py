"""Coding bases of human DNA: learned from the beta-globin genes, tested on the class I region of the MHC.

    python -m tests.experiments.gene_segmentation FOLDER

FOLDER holds human_betaglobin_U01317 and human_MHC_classI_BA000025, each as .fa (GenBank U01317.1, 73,308 bases, and
BA000025.2, 2,229,817) and _features.csv: type, start, end, strand, gene of GenBank's annotation. Neither is shipped. A
base is coding if a CDS of either strand covers it; models are learned from both strands.

Structure, order and weight of the prior are chosen on beta-globin alone, by the Brier score of the probability that a
held-out base codes. Its six genes are copies of one another, so that leaving one out would test memory; a third is left
out that lies around the first, second or third exons of all six, which are copies of nothing in the other thirds.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyro.distributions as dist
import torch

from probseq import HMM, Fit, Sequences, em, families
from probseq.chains import ForbiddenTransitions
from probseq.genome.training import joined, reverse_complement

# The states, the last of which codes for nothing, and what each is on the other strand.
STRUCTURES = {"two states": (0, 1), "strands": (1, 0, 2), "codons": (3, 4, 5, 0, 1, 2, 6)}


@dataclass(frozen=True)
class Region:
    """A record with its CDS features; the shortened copy of HBB in thalassemia is left out."""

    record: Sequences
    features: pd.DataFrame

    @staticmethod
    def read(folder: Path, name: str) -> Region:
        table = pd.read_csv(folder / f"{name}_features.csv").fillna({"gene": "unnamed"})
        table = table[(table["type"] == "CDS") & (table["gene"] != "HBB thalassemia")]
        return Region(Sequences.from_fasta(folder / f"{name}.fa"), table.drop_duplicates(["start", "end", "strand"]))

    def labels(self, structure: str) -> np.ndarray:
        """(T,) the state of each base; of codons, its place in the reading frame, after those of the + strand."""
        found = np.full(self.record.total_steps, len(STRUCTURES[structure]) - 1)
        for (_, strand), gene in self.features.groupby(["gene", "strand"]):
            back = int(strand == "-")
            exons = sorted(gene[["start", "end"]].to_numpy().tolist(), reverse=bool(back))
            bases = np.concatenate([np.arange(start - 1, end)[:: 1 - 2 * back] for start, end in exons])
            found[bases] = {"two states": 0, "strands": back, "codons": 3 * back + np.arange(len(bases)) % 3}[structure]
        return found

    def thirds(self) -> list[tuple[int, int, int]]:
        """(start, end, third) of pieces that tile the record; what lies between genes is cut in three."""
        genes = [sorted(gene[["start", "end"]].to_numpy().tolist()) for _, gene in self.features.groupby("gene")]
        edges, owners, last = [0], [], 0
        for one, two, three in sorted(genes):
            gap = (one[0] - last) // 3
            edges += [last + gap, last + 2 * gap, (one[1] + two[0]) // 2, (two[1] + three[0]) // 2, three[1]]
            owners, last = [*owners, 2, 1, 0, 1, 2], three[1]
        edges += np.linspace(last, self.record.total_steps, 4).astype(int).tolist()[1:]
        return list(zip(edges, edges[1:], [*owners, 2, 1, 0], strict=False))

    def part(self, start: int, end: int, labels: np.ndarray | None = None) -> Sequences:
        known, values = None if labels is None else torch.from_numpy(labels[start:end]), self.record.values[start:end]
        return Sequences(values, torch.tensor([end - start]), labels=known, categories=self.record.categories)


def learn(region: Region, structure: str, order: int, weight: float, without: int | None = None) -> Fit:
    """Count both strands, of all thirds but one; the prior is `weight` observations in the shares of all states."""
    labels, opposite, states = region.labels(structure), STRUCTURES[structure], len(STRUCTURES[structure])
    parts = [region.part(start, end, labels) for start, end, third in region.thirds() if third != without]
    series = joined([*parts, *(reverse_complement(part, opposite) for part in parts)])
    never = set(itertools.product(range(states), repeat=2)) - set(itertools.pairwise(series.labels.tolist()))
    family = families.ContextCategorical(order, 4) if order else families.Categorical(4)
    shares = em(HMM(1, family), replace(series, labels=None), restarts=1, priors=True).parameters["probabilities"][0]
    prior = dist.Dirichlet(1.0 + weight * shares).to_event(shares.dim() - 1)
    model = HMM(states, family, transition=ForbiddenTransitions(tuple(never)), priors={"probabilities": prior})
    return em(model, series, restarts=1, priors=True, polished=False)


def scores(truth: np.ndarray, call: np.ndarray) -> dict[str, float]:
    """Shares of bases, and Matthews's (1975) correlation."""
    hit, miss, false, right = (float(((truth == t) & (call == c)).sum()) for t in (True, False) for c in (True, False))
    root = np.sqrt((hit + miss) * (hit + false) * (right + miss) * (right + false))
    shares = (hit + right) / len(truth), hit / (hit + miss), right / (right + false), hit / max(hit + false, 1)
    names = ("accuracy", "sensitivity", "specificity", "precision", "MCC")
    return dict(zip(names, (*shares, (hit * right - false * miss) / max(root, 1)), strict=True))


def held_out(region: Region, structure: str, order: int, weight: float) -> float:
    """Mean squared error of the probability to code where each third is read by the model of the other two."""
    chance, truth = np.zeros(region.record.total_steps), region.labels("two states") == 0
    for third in range(3):
        fit = learn(region, structure, order, weight, without=third)
        for start, end, _ in (piece for piece in region.thirds() if piece[2] == third):
            chance[start:end] = fit.posterior(region.part(start, end)).smoothed[:, :-1].sum(1)
    return float(((chance - truth) ** 2).mean())


def main(folder: Path) -> pd.DataFrame:
    """A row for the null model, and for each structure and order with the weight that held-out thirds choose."""
    globin, mhc = (Region.read(folder, name) for name in ("human_betaglobin_U01317", "human_MHC_classI_BA000025"))
    known, truth = (region.labels("two states") == 0 for region in (globin, mhc))
    rows = {"null: nothing codes": {"held out": known.mean() * (1 - known.mean())} | scores(truth, truth < 0)}
    for structure, order in itertools.product(STRUCTURES, range(5)):
        error, weight = min((held_out(globin, structure, order, weight), weight) for weight in (1, 10, 100))
        path = learn(globin, structure, order, weight).posterior(mhc.record).viterbi.numpy()
        call = path < len(STRUCTURES[structure]) - 1
        rows[f"{structure}, order {order}, prior {weight}"] = {"held out": error} | scores(truth, call)
    table = pd.DataFrame(rows).T
    return table.rename(index={table["held out"].idxmin(): f"{table['held out'].idxmin()} (chosen)"})


if __name__ == "__main__":
    print(main(Path(sys.argv[1])).round(4).to_string())
