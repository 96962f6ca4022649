"""Genomes cut into segments of one hidden state each: FASTA in, BED and bedGraph out; scores against what is known."""

from probseq.genome.scores import base_scores, exon_scores, runs
from probseq.genome.segmentation import Segmentation, segment

__all__ = ["Segmentation", "base_scores", "exon_scores", "runs", "segment"]
