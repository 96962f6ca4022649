"""Figures of a series, its hidden states and a fitted model: one function each, matplotlib Axes in and out."""

from probseq.plots.calibration import rank_ecdf, rank_ecdfs
from probseq.plots.chains import chain_ranks, chain_traces
from probseq.plots.checks import predictive_check
from probseq.plots.emissions import emission_densities, symbol_shares
from probseq.plots.forecasts import chance_ahead, forecast_fan
from probseq.plots.gradients import (
    exponent_agreement,
    gradient_spans,
    product_growth,
    product_paths,
    singular_spectrum,
)
from probseq.plots.intervals import parameter_intervals, profile_curve
from probseq.plots.loss_surfaces import descent_losses, loss_along, loss_contours
from probseq.plots.phrases import phrase_plane
from probseq.plots.pictures import told_image, tracked_path
from probseq.plots.residuals import residual_autocorrelation, residual_histogram, residual_quantiles, residual_series
from probseq.plots.search import objective_trace, restart_outcomes, state_selection
from probseq.plots.spells import spell_durations, spell_lengths
from probseq.plots.states import decoded_series, state_probabilities
from probseq.plots.style import figure, state_colours
from probseq.plots.totals import month_sums, monthly_totals
from probseq.plots.training import training_curves
from probseq.plots.transitions import transition_diagram
from probseq.plots.uncertainty import path_uncertainty

__all__ = [
    "chain_ranks",
    "chain_traces",
    "chance_ahead",
    "decoded_series",
    "descent_losses",
    "emission_densities",
    "exponent_agreement",
    "figure",
    "forecast_fan",
    "gradient_spans",
    "loss_along",
    "loss_contours",
    "month_sums",
    "monthly_totals",
    "objective_trace",
    "parameter_intervals",
    "path_uncertainty",
    "phrase_plane",
    "predictive_check",
    "product_growth",
    "product_paths",
    "profile_curve",
    "rank_ecdf",
    "rank_ecdfs",
    "residual_autocorrelation",
    "residual_histogram",
    "residual_quantiles",
    "residual_series",
    "restart_outcomes",
    "singular_spectrum",
    "spell_durations",
    "spell_lengths",
    "state_colours",
    "state_probabilities",
    "state_selection",
    "symbol_shares",
    "training_curves",
    "told_image",
    "tracked_path",
    "transition_diagram",
]
