"""Recurrent cells, their unrolling over ragged batches, and what becomes of gradients in them."""

from probseq.recurrent.bidirectional import Bidirectional
from probseq.recurrent.cell import Cell
from probseq.recurrent.cells import cell_by_name
from probseq.recurrent.first_weights import weights_of_seed
from probseq.recurrent.gru import GRU
from probseq.recurrent.layer import RecurrentLayer, State
from probseq.recurrent.lstm import LSTM
from probseq.recurrent.ragged import Ragged
from probseq.recurrent.stacked import Stacked
from probseq.recurrent.vanilla import Vanilla

__all__ = [
    "GRU",
    "LSTM",
    "Bidirectional",
    "Cell",
    "Ragged",
    "RecurrentLayer",
    "Stacked",
    "State",
    "Vanilla",
    "cell_by_name",
    "weights_of_seed",
]
