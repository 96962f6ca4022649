"""A fit as ArviZ wants it: an xarray DataTree of draws, statistics, pointwise densities and predictions.

What ArviZ makes of the group `log_likelihood` is leave-one-out cross-validation by importance sampling, which takes the
terms for p(y_t | theta) of observations that are independent given the parameters. Those of a hidden Markov model are
not; the quantity that its weights need is p(y_t | y_-t, theta), all other steps seen and the states summed out exactly
(`StatePosterior.leave_one_out_log_prob`), and that is what the group holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from probseq.errors import FitError
from probseq.inference.arviz_names import parameter_names, step_coordinates
from probseq.inference.fit import Fit, scored_steps
from probseq.inference.pointwise import per_draw
from probseq.inference.replication import OBSERVED, observed_sites, prior_draws, replicate
from probseq.inference.simulation import draw_of
from probseq.models.hmm import HMM
from probseq.models.program import ProgramModel
from probseq.sequences import Sequences

if TYPE_CHECKING:
    from xarray import DataTree

HELD = 1 << 25
"""Numbers of a group that goes over all steps, unless more are asked for: 256 MB."""

SAMPLE = ["chain", "draw"]


def arviz_tree(fit: Fit, series: Sequences, prior: int, predictive: int | None, seed: int) -> DataTree:
    """The groups of a fit; see `Fit.to_arviz`."""
    from xarray import DataTree

    if prior < 0 or (predictive is not None and predictive < 0):
        raise FitError(f"prior_draws and predictive_draws must be at least 0, got {prior} and {predictive}.")
    writer = _Writer(fit, series)
    sampling, chains = fit.sampling, writer.chains
    groups: dict[str, Any] = {"posterior": writer.parameters(_by_chain(fit.draws, chains))}
    if sampling is not None and sampling.statistics:
        groups["sample_stats"] = writer.statistics(sampling.statistics)
    kept = _kept(fit.n_draws // chains, chains, series.total_steps, predictive)
    if len(kept):
        some = {name: value[:, kept].flatten(0, 1) for name, value in _by_chain(fit.draws, chains).items()}
        pointwise = _pointwise(fit, some, series)
        if pointwise is not None:
            groups["log_likelihood"] = writer.steps(_by_chain(pointwise, chains), kept, scored_steps(fit.model, series))
        replicas = _by_chain(replicate(fit.model, some, series, seed), chains)
        groups["posterior_predictive"] = writer.steps(writer.as_observed(replicas), kept)
    if prior and fit.knows_priors:
        drawn = prior_draws(fit.model, series, prior, seed + 1)
        groups["prior"] = writer.parameters(_by_chain(drawn, 1))
        replicas = _by_chain(replicate(fit.model, drawn, series, seed + 2), 1)
        groups["prior_predictive"] = writer.steps(writer.as_observed(replicas))
    groups["observed_data"] = writer.steps(writer.observed)
    if series.covariates is not None:
        groups["constant_data"] = writer.covariates()
    if sampling is not None and sampling.warmup:
        groups["warmup_posterior"] = writer.parameters(sampling.warmup)
        groups["warmup_sample_stats"] = writer.statistics(sampling.warmup_statistics)
    return DataTree.from_dict({"/": writer.about(), **groups})


class _Writer:
    """Arrays as datasets, each axis by its name.

    Args:
        fit: whose they are.
        series: the data.
    """

    def __init__(self, fit: Fit, series: Sequences) -> None:
        self.fit, self.series = fit, series
        self.chains = 1 if fit.sampling is None else fit.sampling.chains
        self.names, self.coordinates = parameter_names(fit.model, draw_of(fit.draws, 0), series)
        self.observed, self.step_axes = _observed(fit.model, draw_of(fit.draws, 0), series)

    def parameters(self, values: Mapping[str, Tensor]) -> Any:
        """Draws (chains, draws, ...) of parameters."""
        return self._dataset(values, {name: [*SAMPLE, *self.names[name]] for name in values}, self.coordinates)

    def statistics(self, values: Mapping[str, Tensor]) -> Any:
        """(chains, draws) of a sampler's statistics."""
        flags = {name: value.bool() if name == "diverging" else value for name, value in values.items()}
        return self._dataset(flags, dict.fromkeys(flags, SAMPLE), {})

    def steps(self, values: Mapping[str, Tensor], draws: np.ndarray | None = None, chosen: Tensor | None = None) -> Any:
        """Values by site along the series, of draws (chains, draws, ...) or of none.

        Args:
            values: by site.
            draws: numbers of the draws that they are of, where not all are there.
            chosen: (T,) bool, the steps that they are of; None is all.
        """
        axes = {}
        for name, value in values.items():
            own = ["time"] if chosen is not None else self.step_axes[name]
            axes[name] = [*SAMPLE[: value.dim() - len(own)], *own]
        steps = np.arange(self.series.total_steps) if chosen is None else np.flatnonzero(chosen.numpy())
        coordinates = step_coordinates(self.series, steps)
        if any("column" in own for own in axes.values()):
            coordinates["column"] = np.array([str(column) for column in self.series.columns])
        return self._dataset(values, axes, coordinates | ({} if draws is None else {"draw": draws}))

    def as_observed(self, replicas: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """New observations as whole numbers where those of the data are."""
        return {name: value.to(self.observed[name].dtype) for name, value in replicas.items()}

    def covariates(self) -> Any:
        """What the model was told of each step."""
        assert self.series.covariates is not None
        coordinates = step_coordinates(self.series, np.arange(self.series.total_steps))
        coordinates["covariate"] = np.array([str(name) for name in self.series.covariate_names])
        return self._dataset({"covariates": self.series.covariates}, {"covariates": ["time", "covariate"]}, coordinates)

    def about(self) -> Any:
        """An empty dataset that says where the tree comes from."""
        import xarray
        from arviz_base import make_attrs

        import probseq

        sampling = self.fit.sampling
        told = {
            "inference_library": "probseq",
            "inference_library_version": probseq.__version__,
            "method": self.fit.method,
            "stop_reason": self.fit.stop_reason,
            "sampling_time": self.fit.seconds,
            "relabelled": "" if sampling is None else sampling.relabelled,
        }
        return xarray.Dataset(attrs=make_attrs(attrs=told))

    def _dataset(
        self, values: Mapping[str, Tensor], axes: Mapping[str, list[str]], coordinates: Mapping[str, Any]
    ) -> Any:
        """Values with the coordinates of the axes that they have."""
        import xarray

        used = {name for own in axes.values() for name in own}
        sizes = {name: size for site, own in axes.items() for name, size in zip(own, values[site].shape, strict=True)}
        labels: dict[str, Any] = {name: np.arange(size) for name, size in sizes.items()}
        for name, label in coordinates.items():
            if (label[0] if isinstance(label, tuple) else name) in used:
                labels[name] = label
        return xarray.Dataset({name: (axes[name], value.detach().numpy()) for name, value in values.items()}, labels)


def _by_chain(values: Mapping[str, Tensor], chains: int) -> dict[str, Tensor]:
    """(S, ...) as (chains, S / chains, ...)."""
    return {name: value.unflatten(0, (chains, len(value) // chains)) for name, value in values.items()}


def _kept(draws: int, chains: int, steps: int, asked: int | None) -> np.ndarray:
    """The draws of each chain that predictions are made with, evenly spaced."""
    most = HELD // (chains * steps) if asked is None else asked // chains
    if asked is None:
        most = max(1, most)
    elif 0 < asked < chains:
        raise FitError(
            f"predictive_draws must give each of the {chains} chains a draw, got {asked}; 0 leaves them out."
        )
    count = min(draws, most)
    return (np.arange(count) * draws) // max(count, 1)


def _pointwise(fit: Fit, draws: dict[str, Tensor], series: Sequences) -> dict[str, Tensor] | None:
    """(S, scored steps) log p(y_t | y_-t, draw); None where that is not what cross-validation needs."""
    model = fit.model
    if series.weights is not None or (isinstance(model, HMM) and model.emission.context.lags):
        return None
    name = OBSERVED
    if isinstance(model, ProgramModel):
        from probseq.chains.path_posterior import posterior

        if len(posterior(model.program, draw_of(draws, 0))(series)) > 1:
            return None
        sites = list(observed_sites(model, series, draw_of(draws, 0))[0])
        name = sites[0] if len(sites) == 1 else "step"
    found = per_draw(replace(fit, draws=draws), series, "leave_one_out_log_prob")
    return {name: found[:, scored_steps(model, series)]}


def _observed(
    model: HMM | ProgramModel, parameters: dict[str, Tensor], series: Sequences
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """What was observed at each site, NaN where it was not, and the names of the site's axes."""
    if isinstance(model, HMM):
        axes = ["time"] if series.values.ndim == 1 else ["time", "column"]
        return {OBSERVED: _with_gaps(series.values, series.observed, model.emission.discrete)}, {OBSERVED: axes}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        _, sites = observed_sites(model, series, parameters)
    values, named = {}, {}
    for name, site in sites.items():
        value, event = site["infer"]["obs"], len(site["fn"].event_shape)
        whole = bool(site["fn"].support.is_discrete)
        axes = [f"{name}_dim_{axis}" for axis in range(value.dim())]
        steps = value.dim() - event - 1
        if steps >= 0 and value.shape[steps] == series.total_steps:
            axes[steps] = "time"
        gaps = None
        if value.shape == series.values.shape:
            axes[1:] = ["column"] * (value.dim() - 1)
            gaps = series.observed
        elif steps >= 0 and axes[steps] == "time" and series.observed is not None:
            gaps = series.step_observed.reshape(-1, *(1,) * event).expand(value.shape)
        values[name], named[name] = _with_gaps(value, gaps, whole), axes
    return values, named


def _with_gaps(values: Tensor, observed: Tensor | None, whole: bool) -> Tensor:
    """Values, as integers where all are whole numbers; as numbers with NaN where some were not measured."""
    if observed is None:
        return values.long() if whole else values.double()
    return torch.where(observed, values.double(), torch.nan)
