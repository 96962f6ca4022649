"""Criticism of fits: relabelling, residuals, cross-validation, predictive checks, intervals and calibration."""

from probseq.diagnostics.bootstrap import Bootstrap, block_bootstrap, bootstrap
from probseq.diagnostics.calibration import Calibration, calibrate, ordered_quantities
from probseq.diagnostics.convergence import convergence
from probseq.diagnostics.decoding import DecodingUncertainty, decoding_uncertainty
from probseq.diagnostics.delta import Derived, derived
from probseq.diagnostics.held_out import HeldOut
from probseq.diagnostics.leave_future_out import leave_future_out, leave_future_out_exact
from probseq.diagnostics.leave_one_out import compare, leave_sequence_out, leave_sequence_out_exact, loo
from probseq.diagnostics.posterior_summary import posterior_summary
from probseq.diagnostics.predictive_checks import predictive_check, standard_statistics
from probseq.diagnostics.prior_simulation import simulate_from_prior
from probseq.diagnostics.profile import Profile, profile
from probseq.diagnostics.relabelling import Relabelled, relabel_by, relabel_pivotal
from probseq.diagnostics.relabelling_by_states import relabel_ecr, relabel_ecr_iterative, relabel_stephens
from probseq.diagnostics.replicates import replicates
from probseq.diagnostics.residual_tests import residual_tests
from probseq.diagnostics.residuals import forecast_residuals, ordinary_residuals
from probseq.diagnostics.standard_errors import Errors, outer_product_errors, sandwich_errors, standard_errors
from probseq.diagnostics.uniformity import EcdfBand, ecdf_band, ecdf_p_value
from probseq.inference.criteria import criteria, icl

__all__ = [
    "Bootstrap",
    "Calibration",
    "DecodingUncertainty",
    "Derived",
    "EcdfBand",
    "Errors",
    "HeldOut",
    "Profile",
    "Relabelled",
    "block_bootstrap",
    "bootstrap",
    "calibrate",
    "compare",
    "convergence",
    "criteria",
    "decoding_uncertainty",
    "derived",
    "ecdf_band",
    "ecdf_p_value",
    "forecast_residuals",
    "icl",
    "leave_future_out",
    "leave_future_out_exact",
    "leave_sequence_out",
    "leave_sequence_out_exact",
    "loo",
    "ordered_quantities",
    "ordinary_residuals",
    "outer_product_errors",
    "posterior_summary",
    "predictive_check",
    "profile",
    "relabel_by",
    "relabel_ecr",
    "relabel_ecr_iterative",
    "relabel_pivotal",
    "relabel_stephens",
    "replicates",
    "residual_tests",
    "sandwich_errors",
    "simulate_from_prior",
    "standard_errors",
    "standard_statistics",
]
