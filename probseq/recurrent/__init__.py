"""Recurrent cells, their unrolling over ragged batches, and what becomes of gradients in them."""

from probseq.recurrent.cell import Cell, State
from probseq.recurrent.ragged import Ragged

__all__ = ["Cell", "Ragged", "State"]
