"""Criticism of fits: relabelling, residuals, cross-validation, predictive checks, intervals and calibration."""
