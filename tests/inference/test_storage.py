"""A fit on disk: bit-equal in another process, refused when it is not whole or not one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch

import probseq
from probseq import HMM, DataError, Fit, FitError, ModelError, Sequences, em, families, standard_errors, svi
from probseq.chains import FixedInitial, ForbiddenTransitions, LeftRightTransitions, StationaryInitial

SCORES = """
import sys, numpy as np, torch
from probseq import Fit, Sequences
fit = Fit.load(sys.argv[1])
stored = np.load(sys.argv[2])
series = Sequences(torch.from_numpy(stored["values"]), torch.from_numpy(stored["lengths"]),
                   observed=torch.from_numpy(stored["observed"]), categories=fit.categories)
posterior = fit.posterior(series)
np.savez(sys.argv[3], log_prob=fit.log_prob(series), predictive=fit.predictive_log_prob(series),
         smoothed=posterior.smoothed, viterbi=posterior.viterbi, simulated=fit.simulate(7, seed=3).values)
"""


def quick(case, **options) -> Fit:
    with pytest.warns(UserWarning, match="max_iterations = 3"):
        return em(
            case.model, case.series, restarts=2, workers=1, max_iterations=3, polished=False, tolerance=0.0, **options
        )


def test_every_family_comes_back_as_it_was(case, tmp_path):
    fit = quick(case)
    assert fit.save(tmp_path / "fit") == tmp_path / "fit"
    loaded = Fit.load(tmp_path / "fit")
    assert loaded.model.emission == fit.model.emission
    for name, value in fit.parameters.items():
        assert torch.equal(loaded.parameters[name], value) and loaded.parameters[name].dtype == value.dtype
    assert torch.equal(loaded.log_prob(case.series), fit.log_prob(case.series))
    assert torch.equal(loaded.objective, fit.objective)
    assert loaded.attempts == fit.attempts
    assert loaded.summary() == fit.summary()
    assert (loaded.fingerprint, loaded.columns, loaded.seconds) == (fit.fingerprint, fit.columns, fit.seconds)
    assert loaded.fingerprint == case.series.fingerprint()


@pytest.mark.parametrize("kind", ["hurdle-gamma", "categorical"])
def test_scores_are_bit_equal_in_a_new_process(make_case, tmp_path, kind):
    if kind == "categorical":
        codes = torch.from_numpy(np.random.default_rng(0).integers(0, 3, 60).astype(np.uint8))
        series = Sequences(codes, torch.tensor([40, 20]), categories=("a", "b", "c"))
        fit = em(HMM(2, families.Categorical()), series, restarts=1, tolerance=1e-3, priors=True)
    else:
        case = make_case(families.by_name(kind))
        fit, series = quick(case), case.series
    fit.save(tmp_path / "fit")
    observed = np.ones(len(series.values), bool) if series.observed is None else series.observed.numpy()
    np.savez(tmp_path / "data.npz", values=series.values.numpy(), lengths=series.lengths.numpy(), observed=observed)
    command = [
        sys.executable,
        "-c",
        SCORES,
        str(tmp_path / "fit"),
        str(tmp_path / "data.npz"),
        str(tmp_path / "out.npz"),
    ]
    environment = {
        "PYTHONPATH": str(Path(probseq.__file__).parents[1]),
        "PATH": "/usr/bin:/bin",
        "HOME": str(Path.home()),
    }
    subprocess.run(command, check=True, env=environment)
    found, posterior = np.load(tmp_path / "out.npz"), fit.posterior(series)
    expected = {
        "log_prob": fit.log_prob(series),
        "predictive": fit.predictive_log_prob(series),
        "smoothed": posterior.smoothed,
        "viterbi": posterior.viterbi,
        "simulated": fit.simulate(7, seed=3).values,
    }
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value.numpy(), err_msg=name, strict=True)


def test_draws_come_back(tmp_path, poisson):
    from pyro.infer.autoguide import AutoNormal

    with pytest.warns(UserWarning, match="steps = 10"):
        fit = svi(poisson.model, poisson.series, guide=AutoNormal, steps=10, draws=7)
    fit.save(tmp_path)
    loaded = Fit.load(tmp_path)
    assert loaded.n_draws == 7
    assert torch.equal(loaded.log_prob(poisson.series), fit.log_prob(poisson.series))


@pytest.mark.parametrize(
    "model",
    [
        HMM(2, families.Poisson(), StationaryInitial()),
        HMM(2, families.Poisson(), FixedInitial((1.0, 0.0)), LeftRightTransitions()),
        HMM(2, families.Poisson(), transition=ForbiddenTransitions(((1, 1),))),
    ],
)
def test_structures_come_back(tmp_path, poisson, model):
    fit = em(model, poisson.series, priors=True, restarts=1, tolerance=1e-3)
    loaded = Fit.load(fit.save(tmp_path / "fit"))
    assert loaded.model.initial == model.initial and loaded.model.transition == model.transition
    assert loaded.n_parameters == fit.n_parameters and loaded.bic == fit.bic


def test_every_prior_comes_back(case, tmp_path):
    """To the rounding of priors that were told in single precision."""
    fit = quick(case)
    bound = replace(fit, model=case.model.bind(case.series, with_priors=True), with_priors=True)
    loaded = Fit.load(bound.save(tmp_path / "fit"))
    assert loaded.knows_priors and set(loaded.model.priors) == set(bound.model.priors)
    own, found = (one.model.log_prior(fit.parameters, case.series) for one in (bound, loaded))
    assert float(found) == pytest.approx(float(own), rel=1e-6, abs=1e-6)


def test_a_loaded_posterior_mode_has_the_errors_that_it_had(tmp_path, poisson):
    """A prior of the user's own is as much part of the objective as the data."""
    prior = dist.Gamma(torch.tensor(400.0).double(), torch.tensor(100.0).double())
    fit = em(HMM(2, families.Poisson(), priors={"rate": prior}), poisson.series, priors=True, restarts=1)
    loaded = Fit.load(fit.save(tmp_path / "fit"))
    own, found = standard_errors(fit).table, standard_errors(loaded, poisson.series).table
    pd.testing.assert_frame_equal(found, own, rtol=1e-9)


def test_priors_that_no_file_can_hold_are_missed(tmp_path, poisson):
    """A law that torch has no arguments of is written as text, and nothing is computed from others in its place."""
    base = dist.Gamma(torch.tensor(2.0).double(), torch.tensor(0.5).double())
    prior = dist.TransformedDistribution(base, [dist.transforms.AffineTransform(1.0, 1.0)])
    fit = em(HMM(1, families.Poisson()), poisson.series, priors=True, restarts=1)
    odd = replace(fit, model=replace(fit.model, priors={"rate": prior}))
    loaded = Fit.load(odd.save(tmp_path / "fit"))
    assert odd.knows_priors and not loaded.knows_priors
    with pytest.raises(FitError, match="must know its priors, got a fit that was saved without"):
        standard_errors(loaded, poisson.series)


def test_a_failed_start_has_no_number_and_comes_back_as_none(tmp_path, poisson):
    """JSON has no NaN."""
    from probseq.inference import Attempt

    fit = replace(quick(poisson), attempts=(Attempt(0, float("nan"), 1, "collapsed"),))
    fit.save(tmp_path)
    text = (tmp_path / "fit.json").read_text()
    assert "NaN" not in text and json.loads(text)["attempts"][0]["objective"] is None
    assert np.isnan(Fit.load(tmp_path).attempts[0].objective)


def test_nothing_is_pickled_and_nothing_is_left_over(tmp_path, poisson):
    directory = quick(poisson).save(tmp_path / "deep" / "fit")
    assert sorted(path.name for path in directory.iterdir()) == ["fit.json", "fit.safetensors"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["fit"]
    quick(poisson).save(directory)
    assert sorted(path.name for path in directory.iterdir()) == ["fit.json", "fit.safetensors"]


def spoil(directory: Path, how: str) -> None:
    description, numbers = directory / "fit.json", directory / "fit.safetensors"
    text = description.read_text()
    whole = json.loads(text)
    if how == "no description":
        description.unlink()
    elif how == "no numbers":
        numbers.unlink()
    elif how == "truncated description":
        description.write_text(text[: len(text) // 2])
    elif how == "truncated numbers":
        numbers.write_bytes(numbers.read_bytes()[:-9])
    elif how == "empty numbers":
        numbers.write_bytes(b"")
    elif how == "another version":
        description.write_text(json.dumps(whole | {"format": 99}))
    elif how == "foreign JSON":
        description.write_text('{"weights": [1, 2, 3]}')
    elif how == "a list":
        description.write_text("[1, 2]")
    elif how == "a law unknown":
        whole["model"]["initial"]["law"] = "Nobody"
        description.write_text(json.dumps(whole))
    elif how == "other states":
        whole["model"]["states"] = 5
        description.write_text(json.dumps(whole))
    elif how == "a tensor lacks":
        description.write_text(json.dumps(whole | {"parameters": ["initial", "transition", "nothing"]}))
    elif how == "binary rubbish":
        description.write_bytes(bytes(range(256)))


@pytest.mark.parametrize(
    "how",
    [
        "no description",
        "no numbers",
        "truncated description",
        "truncated numbers",
        "empty numbers",
        "another version",
        "foreign JSON",
        "a list",
        "a law unknown",
        "other states",
        "a tensor lacks",
        "binary rubbish",
    ],
)
def test_a_directory_that_is_no_whole_fit(tmp_path, poisson, how):
    directory = quick(poisson).save(tmp_path / "fit")
    spoil(directory, how)
    with pytest.raises(DataError, match=r"A saved fit must .*, got .*; "):
        Fit.load(directory)


def test_no_such_directory(tmp_path):
    with pytest.raises(DataError, match=r"got no fit\.json in .*nowhere"):
        Fit.load(tmp_path / "nowhere")


def test_a_family_that_this_version_does_not_know(tmp_path, poisson):
    directory = quick(poisson).save(tmp_path / "fit")
    whole = json.loads((directory / "fit.json").read_text())
    whole["model"]["emission"] = {"family": "cauchy"}
    (directory / "fit.json").write_text(json.dumps(whole))
    with pytest.raises(ModelError, match="known family"):
        Fit.load(directory)


def test_a_place_that_cannot_be_written(tmp_path, poisson):
    (tmp_path / "file").write_text("here first")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match="directory that can be written"):
            quick(poisson).save(place)
    assert (tmp_path / "file").read_text() == "here first"


def test_summary_is_plain_numbers(poisson):
    fit = quick(poisson)
    summary = fit.summary()
    assert json.loads(json.dumps(summary)) == summary
    wanted = {
        "log_likelihood",
        "n_parameters",
        "aic",
        "bic",
        "states",
        "converged",
        "stop_reason",
        "iterations",
        "seconds",
    }
    assert wanted | {"initial", "transition", "emission"} <= set(summary)
    assert summary["emission"] == {"rate": fit.parameters["rate"].tolist()}
    assert pd.DataFrame(summary["transition"]).sum(axis=1).tolist() == pytest.approx([1.0, 1.0])
    assert issubclass(FitError, ValueError)
