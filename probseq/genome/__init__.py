"""Genomes cut into segments of one hidden state each: FASTA in, BED and bedGraph out."""

from probseq.genome.segmentation import Segmentation, segment

__all__ = ["Segmentation", "segment"]
