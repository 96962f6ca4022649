"""Chains in forked processes: the same draws as in turn; interrupts, failures and processes that cannot be had."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from probseq import HMM, FitError, Sequences, families, nuts
from probseq.inference import sampled_chains as module
from probseq.inference.progress import Progress
from probseq.inference.sampled_chains import Chain, sampled_chains
from tests.inference.test_potential import COUNTS, hierarchical

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


def counts(size: int = 40) -> Sequences:
    rng = np.random.default_rng(1)
    path = np.cumsum(rng.random(size) < 0.1) % 2
    return Sequences.from_arrays(rng.poisson(np.where(path == 1, 12.0, 3.0)).astype(float))


def run_some(run, chains: int = 3, workers: int = 2, rows: int = 4) -> list[Chain]:
    with Progress("Test", chains, False) as bar:
        return sampled_chains(run, chains, workers, (rows, 2), ["number"], bar)


def whole(number: int, report: Any = None, rows: int = 4) -> Chain:
    return Chain(np.full((rows, 2), float(number)), {"number": np.arange(rows) + 10.0 * number})


def no_children() -> bool:
    """Whether every process that was begun is gone, and was seen to be."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


@pytest.mark.parametrize(
    ("model", "series"),
    [(HMM(2, families.Poisson()), counts()), (lambda series: hierarchical(series), COUNTS)],
    ids=["an HMM", "a program of one's own"],
)
def test_processes_make_no_difference(model, series):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="nuts did not mix")
        one, apart = (
            nuts(model, series, chains=3, draws=30, tune=30, max_treedepth=4, seed=5, workers=workers)
            for workers in (1, 2)
        )
    assert one.sampling is not None and apart.sampling is not None
    for name, value in one.draws.items():
        assert torch.equal(value, apart.draws[name])
        assert torch.equal(one.sampling.warmup[name], apart.sampling.warmup[name])
    for name, value in one.sampling.statistics.items():
        assert torch.equal(value, apart.sampling.statistics[name])
    assert no_children()


def test_each_chain_has_a_process_of_its_own():
    here = os.getpid()

    def run(number, report):
        return Chain(np.full((4, 2), float(os.getpid())), {"number": np.zeros(4)})

    found = {chain.points[0, 0] for chain in run_some(run)}
    assert len(found) == 3 and here not in found and no_children()


def test_what_fails_apart_is_run_again_here():
    """A process that is killed loses nothing; an error that is the chain's own is raised as it is."""
    here = os.getpid()

    def killed(number, report):
        if number == 1 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(number)

    chains = run_some(killed)
    assert [chain.points[0, 0] for chain in chains] == [0.0, 1.0, 2.0]
    assert [chain.statistics["number"][0] for chain in chains] == [0.0, 10.0, 20.0]

    def wrong(number, report):
        raise FitError(f"chain {number} is wrong")

    with pytest.raises(FitError, match="chain 0 is wrong"):
        run_some(wrong)
    assert no_children()


def test_without_room_for_processes_chains_run_in_turn(monkeypatch):
    def refuse():
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", refuse)
    descriptors = len(os.listdir("/proc/self/fd"))
    assert [chain.points[0, 0] for chain in run_some(whole)] == [0.0, 1.0, 2.0]
    monkeypatch.undo()
    monkeypatch.setattr(module, "FORKS", False)
    assert [chain.points[0, 0] for chain in run_some(lambda number, report: whole(os.getpid()))] == [os.getpid()] * 3
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.fixture
def interrupted_later(monkeypatch) -> Iterator[None]:
    """Ctrl-C a second after the second process was begun, also where this one was started to ignore it."""
    start = module._Apart.start
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)

    def watched(apart, run):
        start(apart, run)
        if apart.number == 1:
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()

    monkeypatch.setattr(module._Apart, "start", watched)
    yield
    signal.signal(signal.SIGINT, heeded)


@pytest.mark.usefixtures("interrupted_later")
def test_an_interrupt_keeps_what_is_done_and_leaves_no_process():
    """The first chain is done, two put down what they have, the fourth was never begun."""

    def run(number, report):
        if number == 0:
            return whole(0)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            return whole(number, rows=2).first(2)
        return whole(number)

    first, *others = run_some(run, chains=4)
    assert not first.interrupted and first.points.shape == (4, 2)
    assert [chain.statistics["number"].tolist() for chain in others] == [[10.0, 11.0], [20.0, 21.0]]
    assert all(chain.interrupted and chain.points.shape == (2, 2) for chain in others)
    assert no_children()


@pytest.mark.usefixtures("interrupted_later")
def test_an_interrupt_before_there_is_anything(monkeypatch):
    """Processes that do not heed it are killed."""
    monkeypatch.setattr(module, "GRACE", 0.1)

    def run(number, report):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
        return whole(number)

    with pytest.raises(KeyboardInterrupt):
        run_some(run)
    assert no_children()


@pytest.mark.usefixtures("interrupted_later")
def test_interrupted_chains_of_nuts_are_cut_to_one_length():
    with pytest.warns(UserWarning, match="interrupted"):
        fit = nuts(HMM(2, families.Poisson()), counts(), chains=2, draws=200_000, tune=20, workers=2)
    assert fit.sampling is not None and fit.sampling.chains == 2 and fit.stop_reason.startswith("interrupted")
    assert fit.sampling.statistics["lp"].shape == (2, len(fit.draws["rate"]) // 2) and len(fit.draws["rate"]) > 2
    assert no_children()
