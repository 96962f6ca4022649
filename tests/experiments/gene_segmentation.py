"""Coding bases and exons of human DNA: learned from the beta-globin genes, tested on the class I region of the MHC.

    python -m tests.experiments.gene_segmentation FOLDER

FOLDER holds human_betaglobin_U01317 and human_MHC_classI_BA000025, each as .fa (GenBank U01317.1, 73,308 bases, and
BA000025.2, 2,229,817) and _features.csv: type, start, end, strand, gene of GenBank's annotation. Neither is shipped. A
base is coding if a CDS of either strand covers it; models are learned from both strands. The law of a base after the k
before it backs off to shorter contexts,

    p_k(x | c) = (n(c, x) + w p_(k-1)(x | c')) / (n(c) + w)        (MacKay & Peto 1995)

Structure, order k and weight w are chosen on beta-globin alone, by the mean log-probability of whether a held-out base
codes, and the probability above which a base is called by the correlation with what is held out. Its six genes are
copies of one another, so that leaving one out would test memory; a third is left out that lies around the first, second
or third exons of all six, which are copies of nothing in the other thirds.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from probseq import HMM, Sequences, families, stationary_law
from probseq.genome import base_scores, exon_scores, runs
from probseq.genome.training import reverse_complement
from probseq.kernels.streaming import smoothed_blocks
from tests.experiments.gene_structures import STRUCTURES, Structure

WEIGHTS = (1, 3, 10, 30, 100, 300, 1000)
CUTOFFS = (0.01, 0.02, *np.linspace(0.05, 0.95, 19).tolist(), 0.98, 0.99)


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

    def coding(self) -> np.ndarray:
        """(T,) bool."""
        found = np.zeros(self.record.total_steps, dtype=bool)
        for start, end in self.features[["start", "end"]].to_numpy():
            found[start - 1 : end] = True
        return found

    def exons(self) -> np.ndarray:
        """(n, 2) start and end of the coding part of each exon, from 0 and half open."""
        return self.features[["start", "end"]].to_numpy() - [1, 0]

    def labels(self, structure: Structure) -> np.ndarray:
        """(T,) the state of each base."""
        found = np.full(self.record.total_steps, len(structure.opposite) - 1)
        for (_, strand), gene in self.features.groupby(["gene", "strand"]):
            exons = np.array(sorted(gene[["start", "end"]].to_numpy().tolist()))
            between = exons[1:, 0] - exons[:-1, 1] - 1
            step = 1 - 2 * int(strand == "-")
            states = structure.spell((exons[:, 1] - exons[:, 0] + 1)[::step].tolist(), between[::step].tolist())
            states = states if step == 1 else np.array(structure.opposite)[states[::-1]]
            found[exons[0, 0] - 1 : exons[-1, 1]] = states
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


@dataclass(frozen=True)
class GeneFinder:
    """A structure with the laws of its states."""

    structure: Structure
    model: HMM
    parameters: dict[str, torch.Tensor]

    @staticmethod
    def learn(region: Region, structure: Structure, order: int, weight: float, without: int | None = None):
        """Count both strands, of all thirds but one."""
        labels, states = region.labels(structure), len(structure.opposite)
        parts = [region.part(start, end, labels) for start, end, third in region.thirds() if third != without]
        bases, moves = np.zeros((states, 4**order, 4)), np.zeros((states, states))
        for part in (*parts, *(reverse_complement(part, structure.opposite) for part in parts)):
            assert part.labels is not None
            values, state = part.values.numpy().astype(int), part.labels.numpy()
            context = sum((4**lag * values[order - 1 - lag : len(values) - 1 - lag] for lag in range(order)), 0)
            np.add.at(bases, (state[order:], context, values[order:]), 1)
            np.add.at(moves, (state[:-1], state[1:]), 1)
        transition = torch.from_numpy(shares_of_moves(moves, structure))
        laws = laws_of_bases(bases, structure, order, weight)
        family = families.ContextCategorical(order, 4) if order else families.Categorical(4)
        emission = torch.from_numpy(laws if order else laws[:, 0])
        parameters = {"initial": stationary_law(transition), "transition": transition, "probabilities": emission}
        return GeneFinder(structure, HMM(states, family), parameters)

    def read(self, series: Sequences) -> tuple[np.ndarray, np.ndarray]:
        """(T,) the probability that each base codes, and whether it does on the best path."""
        posterior, codes = self.model.posterior(self.parameters, series), np.array(self.structure.codes)
        blocks = smoothed_blocks(**posterior.arguments)
        chance = np.concatenate([gamma.reshape(len(gamma), -1)[:, codes].sum(1) for _, gamma in blocks])
        return chance, codes[posterior.viterbi.numpy()]


def shares_of_moves(counts: np.ndarray, structure: Structure) -> np.ndarray:
    """Rows of the transition matrix; tied moves share their counts, of which there is one at least."""
    found = np.zeros_like(counts) if structure.tied else counts
    for group in structure.tied:
        rows, columns = zip(*group, strict=True)
        found[rows, columns] = max(counts[rows, columns].sum(), 1.0) / len(group)
    return found / found.sum(1, keepdims=True)


def laws_of_bases(counts: np.ndarray, structure: Structure, order: int, weight: float) -> np.ndarray:
    """(K, 4^order, 4): each order backs off to the one below it, and order 0 to an even law worth one base."""
    _, law = np.unique(structure.law, return_inverse=True)
    pooled = np.zeros((law.max() + 1, *counts.shape[1:]))
    np.add.at(pooled, law, counts)
    pooled, site = pooled[law], np.array(structure.site)
    found = np.full((len(law), 1, 4), 0.25)
    for k in range(order + 1):
        seen = pooled.reshape(len(law), -1, 4**k, 4).sum(1)
        below = np.tile(found, (1, 4**k // found.shape[1], 1))
        prior = weight if k else 1.0
        learned = (seen + prior * below) / (seen.sum(-1, keepdims=True) + prior)
        found = np.where(site[:, None, None] & (k > 0), below, learned)
    return found


def held_out(region: Region, structure: Structure, order: int, weight: float) -> dict[str, float]:
    """Mean log-probability of what each held-out base is, in nats, and the cutoff that would call them best."""
    chance, truth = np.zeros(region.record.total_steps), region.coding()
    for third in range(3):
        finder = GeneFinder.learn(region, structure, order, weight, without=third)
        for start, end, _ in (piece for piece in region.thirds() if piece[2] == third):
            chance[start:end] = finder.read(region.part(start, end))[0]
    with np.errstate(divide="ignore"):
        score = float(np.where(truth, np.log(chance), np.log1p(-np.minimum(chance, 1.0))).mean())
    correlations = [base_scores(truth, chance > cutoff)["MCC"] for cutoff in CUTOFFS]
    cutoff = CUTOFFS[int(np.argmax(correlations))]
    return {"weight": weight, "held out": score, "held-out MCC": max(correlations), "cutoff": cutoff}


def gene_table(folder: Path) -> pd.DataFrame:
    """A row for the null model and for each structure and order, with the weight and cutoff that beta-globin chooses.

    Columns: weight, held out (nats a base), held-out MCC and cutoff, on beta-globin; accuracy, sensitivity,
    specificity, precision and MCC of the bases above the cutoff, on the MHC; of the exons of the best path there, how
    many are exact at both ends, their share of the true ones (exon Sn) and of the called ones (exon Sp), and the shares
    of missed and of wrong ones.
    """
    globin, mhc = (Region.read(folder, name) for name in ("human_betaglobin_U01317", "human_MHC_classI_BA000025"))
    known, truth = globin.coding(), mhc.coding()
    share = known.mean()
    score = share * np.log(share) + (1 - share) * np.log1p(-share)
    null = {"weight": np.nan, "held out": score, "held-out MCC": 0.0, "cutoff": np.nan}
    rows = {"null: nothing codes": null | _scores(mhc, truth < 0, truth < 0)}
    for name, order in itertools.product(STRUCTURES, range(6)):
        weights = WEIGHTS if order else WEIGHTS[:1]
        tried = [held_out(globin, STRUCTURES[name], order, weight) for weight in weights]
        best = max(tried, key=lambda one: one["held out"])
        chance, path = GeneFinder.learn(globin, STRUCTURES[name], order, best["weight"]).read(mhc.record)
        rows[f"{name}, order {order}"] = best | _scores(mhc, chance > best["cutoff"], path)
    table = pd.DataFrame(rows).T
    chosen = str(table["held out"].idxmax())
    return table.rename(index={chosen: f"{chosen} (chosen)"})


def _scores(region: Region, call: np.ndarray, path: np.ndarray) -> dict[str, float]:
    words = {"exact": "exact exons", "sensitivity": "exon Sn", "specificity": "exon Sp"}
    exons = exon_scores(region.exons(), runs(path))
    return base_scores(region.coding(), call) | {words.get(name, name): value for name, value in exons.items()}


def as_markdown(table: pd.DataFrame) -> str:
    """The table for a page, three digits after the point."""
    lines = [["", *map(str, table.columns)], ["---"] * (len(table.columns) + 1)]
    for name, row in table.iterrows():
        whole = [column in ("weight", "exact exons") for column in table.columns]
        digits = [format(value, ".0f" if one else ".3f") for value, one in zip(row, whole, strict=True)]
        lines.append([str(name), *("-" if cell == "nan" else cell for cell in digits)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(as_markdown(gene_table(Path(sys.argv[1]))))
