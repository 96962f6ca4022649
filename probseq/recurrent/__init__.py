"""Recurrent cells, their unrolling over ragged batches, and what becomes of gradients in them."""

from probseq.recurrent.backpropagation import VanillaNet, backpropagate, softmax_error, squared_error
from probseq.recurrent.bidirectional import Bidirectional
from probseq.recurrent.cell import Cell
from probseq.recurrent.cells import cell_by_name
from probseq.recurrent.deep_output import DeepOutput
from probseq.recurrent.deep_transition import DeepTransition
from probseq.recurrent.delayed import Delayed
from probseq.recurrent.feedforward import Feedforward
from probseq.recurrent.first_weights import weights_of_seed
from probseq.recurrent.four_directions import FourDirections
from probseq.recurrent.gru import GRU
from probseq.recurrent.jacobians import (
    Decay,
    fit_decay,
    gradient_norms,
    gradients_by_span,
    log_singular_values,
    resting_exponent,
    span_jacobians,
    spectral_radius,
    step_jacobians,
)
from probseq.recurrent.layer import RecurrentLayer, State
from probseq.recurrent.leaky import Leaky
from probseq.recurrent.loss_surface import (
    Descent,
    LossPlane,
    LossSlice,
    descend,
    loss_plane,
    loss_slice,
    one_unit_loss,
    random_directions,
    weight_loss,
)
from probseq.recurrent.lstm import LSTM
from probseq.recurrent.memory_tasks import ADDING_WITHOUT_MEMORY, adding_task, copy_task, copying_without_memory
from probseq.recurrent.products import (
    Growth,
    gaussian_exponents,
    gaussian_matrices,
    gaussian_spread,
    growth,
    log_lengths,
    log_products,
    lyapunov_exponents,
)
from probseq.recurrent.ragged import Ragged
from probseq.recurrent.slower_decay import delayed_exponent, leaky_exponent
from probseq.recurrent.stacked import Stacked
from probseq.recurrent.vanilla import Vanilla

__all__ = [
    "ADDING_WITHOUT_MEMORY",
    "GRU",
    "LSTM",
    "Bidirectional",
    "Cell",
    "Decay",
    "DeepOutput",
    "DeepTransition",
    "Delayed",
    "Descent",
    "Feedforward",
    "FourDirections",
    "Growth",
    "Leaky",
    "LossPlane",
    "LossSlice",
    "Ragged",
    "RecurrentLayer",
    "Stacked",
    "State",
    "Vanilla",
    "VanillaNet",
    "adding_task",
    "backpropagate",
    "cell_by_name",
    "copy_task",
    "copying_without_memory",
    "delayed_exponent",
    "descend",
    "fit_decay",
    "gaussian_exponents",
    "gaussian_matrices",
    "gaussian_spread",
    "gradient_norms",
    "gradients_by_span",
    "growth",
    "leaky_exponent",
    "log_lengths",
    "log_products",
    "log_singular_values",
    "loss_plane",
    "loss_slice",
    "lyapunov_exponents",
    "one_unit_loss",
    "random_directions",
    "resting_exponent",
    "softmax_error",
    "span_jacobians",
    "spectral_radius",
    "squared_error",
    "step_jacobians",
    "weight_loss",
    "weights_of_seed",
]
