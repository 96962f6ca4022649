"""Training of a network by stochastic gradients, early stopping and checkpoints, on a pytorch-ignite engine.

The loss is nats per step, -sum log p / sum of steps (Goodfellow, Bengio & Courville 2016, chapters 7.8, 8 and 10).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from probseq.errors import DataError, FitError
from probseq.inference.network_fit import NetworkFit
from probseq.inference.progress import TrainingProgress
from probseq.inference.training_checkpoint import RunDirectory
from probseq.inference.training_options import TrainingOptions, training_options, weights_fingerprint
from probseq.inference.training_run import Run
from probseq.inference.training_steps import derived_seed, seed_draws
from probseq.models.network import Network
from probseq.sequences import Sequences


def train(
    network: Network,
    data: Any,
    *,
    validation: Any = None,
    directory: str | Path | None = None,
    resume: bool = False,
    checkpoint_minutes: float = 10.0,
    time_limit: float | None = None,
    device: str = "cpu",
    progress: bool = False,
    **options: Any,
) -> NetworkFit:
    """Fit the weights of a network; the network given stays as it is.

    Args:
        network: to start from.
        data: of the kind that the network encodes, with `count`, `take` and `fingerprint`.
        validation: data to choose the best epoch by; or a share of `data`, in (0, 1), held out by seed (of a single
            sequence, its last steps); None chooses by the training loss.
        directory: for a checkpoint after every epoch, `curves.csv` and the fit; None writes nothing.
        resume: go on from the checkpoint in `directory`, bit by bit as if never stopped; begin where there is none.
        checkpoint_minutes: within an epoch, too, a checkpoint after so many; 0 writes one after every batch.
        time_limit: seconds after which it stops, to be resumed.
        device: where to train.
        progress: show a bar on standard error.
        options: of `TrainingOptions`: epochs, batch_size, learning_rate, optimizer, weight_decay, clip, truncate,
            patience, halve_after, bucketed, seed.

    Returns:
        The fit with the weights of the best epoch. An interrupt returns the best so far.
    """
    how = training_options(options)
    data, validation = _parts(data, validation, how.seed)
    place = None if directory is None else RunDirectory(Path(directory), _identity(network, data, validation, how))
    found = None if place is None else place.open(resume)
    trained = copy.deepcopy(network).to(device)
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        seed_draws(derived_seed(how.seed, 0), device)
        trained.prepare(data)
        examples, held_out = _encoded(trained, data, device), _encoded(trained, validation, device)
        _check_windows(examples, how.truncate)
        with TrainingProgress(how.epochs, progress) as bar:
            run = Run(trained, examples, held_out, how, place, checkpoint_minutes, time_limit, bar)
            if found is not None:
                run.restore(found)
            run.go()
    fit = run.fit(data.fingerprint())
    if directory is not None:
        fit.save(directory)
    return fit


def _parts(data: Any, validation: Any, seed: int) -> tuple[Any, Any]:
    """What to learn from and what to choose by."""
    if isinstance(validation, bool) or not isinstance(validation, int | float):
        return data, validation
    if not 0.0 < validation < 1.0:
        raise FitError(
            f"validation must be data, a share between 0 and 1, or None, got {validation!r} in train; give one of them."
        )
    if data.count == 1 and isinstance(data, Sequences):
        return data.split(1.0 - validation)
    held = max(1, round(validation * data.count))
    if held >= data.count:
        raise DataError(
            f"validation must leave something to learn from, got {validation:g} of {data.count} examples in train; "
            "give more data or a smaller share."
        )
    order = torch.randperm(data.count, generator=torch.Generator().manual_seed(derived_seed(seed, 3)))
    return data.take(order[held:].sort().values), data.take(order[:held].sort().values)


def _identity(network: Network, data: Any, validation: Any, options: TrainingOptions) -> dict[str, Any]:
    """What a run that is resumed must share with its start."""
    return {
        "network": [network.kind, network.description(), weights_fingerprint(network)],
        "data": data.fingerprint(),
        "validation": None if validation is None else validation.fingerprint(),
        "options": options.binding(),
    }


def _encoded(network: Network, data: Any, device: str) -> Any:
    return None if data is None else network.encode(data).to(device)


def _check_windows(examples: Any, truncate: int | None) -> None:
    if truncate is not None and not hasattr(examples, "window"):
        raise FitError(f"truncate must be None where examples have no windows, got {truncate} in train; leave it out.")
