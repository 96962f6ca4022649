"""Training of a network by stochastic gradients, early stopping and checkpoints, on a pytorch-ignite engine.

The loss is nats per step, -sum log p / sum of steps (Goodfellow, Bengio & Courville 2016, chapters 7.8, 8 and 10).
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from probseq.errors import DataError, FitError
from probseq.inference.network_fit import NetworkFit
from probseq.inference.progress import TrainingProgress
from probseq.inference.training_checkpoint import RunDirectory
from probseq.inference.training_options import NUMBER, TrainingOptions, training_options, weights_fingerprint
from probseq.inference.training_run import Run
from probseq.inference.training_steps import derived_seed, seed_draws
from probseq.models.network import Network
from probseq.pairs import Pairs
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
            patience, halve_after, anneal, bucketed, seed.

    Returns:
        The fit with the weights of the best epoch. An interrupt returns the best so far.
    """
    how = training_options(options)
    _check(network, data, directory, resume, {"time_limit": time_limit, "checkpoint_minutes": checkpoint_minutes})
    data, validation = _parts(data, validation, how.seed)
    place = None if directory is None else RunDirectory(Path(directory), _identity(network, data, validation, how))
    trained = copy.deepcopy(network).to(device)
    with ExitStack() as held, torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        if place is not None:
            held.enter_context(place.alone())
        found = None if place is None else place.open(resume)
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
    if validation is None or hasattr(validation, "fingerprint"):
        return data, validation
    if isinstance(validation, bool) or not isinstance(validation, NUMBER) or not 0.0 < validation < 1.0:
        raise FitError(
            f"validation must be data, a share between 0 and 1, or None, got {validation!r} in train; give one of them."
        )
    alone = data.count == 1 and isinstance(data, Sequences)
    total = data.total_steps if alone else data.count
    share = float(validation)
    held = total - round((1.0 - share) * total) if alone else max(1, round(share * total))
    if not 0 < held < total:
        what = "steps of a single sequence" if alone else "examples"
        raise DataError(
            f"validation must hold out something and leave something to learn from, got {share:g} of {total} "
            f"{what} in train; give more data or another share."
        )
    if alone:
        return data.split(total - held)
    order = torch.randperm(data.count, generator=torch.Generator().manual_seed(derived_seed(seed, 3)))
    return data.take(order[held:].sort().values), data.take(order[:held].sort().values)


def _check(network: Any, data: Any, directory: Any, resume: bool, times: dict[str, float | None]) -> None:
    """Refuse arguments that are not what they should be, or would be ignored."""
    if not isinstance(network, Network):
        raise FitError(f"network must be a Network, got {type(network).__name__} in train; of a fit give fit.network.")
    if not isinstance(data, Sequences | Pairs) and not hasattr(data, "fingerprint"):
        raise DataError(f"data must be Sequences or Pairs, got {type(data).__name__} in train; make them of it first.")
    if resume and directory is None:
        raise FitError("resume must come with the directory of the run, got none in train; give directory=.")
    for name, value in times.items():
        if value is not None and not value >= 0.0:
            raise FitError(
                f"{name} must be at least 0, got {value!r} in train; give a positive number, or leave it out."
            )


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
