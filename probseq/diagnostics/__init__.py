"""Criticism of fits: relabelling, residuals, cross-validation, predictive checks, intervals and calibration."""

from probseq.diagnostics.calibration import Calibration, calibrate, ordered_quantities
from probseq.diagnostics.prior_simulation import simulate_from_prior
from probseq.diagnostics.uniformity import EcdfBand, ecdf_band, ecdf_p_value

__all__ = [
    "Calibration",
    "EcdfBand",
    "calibrate",
    "ecdf_band",
    "ecdf_p_value",
    "ordered_quantities",
    "simulate_from_prior",
]
