"""Readers of pandas frames, CSV, FASTA and text files and arrays, each returning validated `Sequences`."""

from probseq.io.arrays import read_arrays
from probseq.io.csv import read_csv
from probseq.io.fasta import read_fasta
from probseq.io.frames import Columns, read_frame, write_frame
from probseq.io.parallel import read_parallel, read_sentences
from probseq.io.text import read_prose

__all__ = [
    "Columns",
    "read_arrays",
    "read_csv",
    "read_fasta",
    "read_frame",
    "read_parallel",
    "read_prose",
    "read_sentences",
    "write_frame",
]
