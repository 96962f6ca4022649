"""What `train` costs beside bare torch loops on the same batches, with the same clipping and optimiser.

    python -m tests.benchmarks.training

An LSTM of 128 units over symbols: cross entropy of the next one, batches of 32 or 64, Adam. One loop goes over the same
network: take a batch, score it, backward, clip_grad_norm_, step. The other is what anyone would write without this
package: nn.Embedding, nn.LSTM over padded batches, nn.Linear, F.cross_entropy that leaves padding out. Both keep the
sum of their losses. `train` does the same, and checks each loss and gradient, seeds each batch, keeps curves and the
best weights. They take turns in one process, an epoch each, of `train` the second; what it does before the first
(`prepare`, fingerprints) is told apart. A ratio is the median over neighbouring turns.
Each number of threads has a process of its own. Writes training.json and training.md.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from probseq import Sequences, train
from probseq.inference.training_options import TrainingOptions
from probseq.inference.training_steps import batches
from probseq.models.recurrent_model import RecurrentModel

HERE = Path(__file__).parent
SYMBOLS, HIDDEN, EMBEDDING = 64, 128, 32
EXAMPLES, STEPS, TURNS = 960, 100, 5


def data(ragged: bool) -> Sequences:
    """Random symbols: 960 sequences of 100 steps, or of 20 to 180."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.full((EXAMPLES,), STEPS)
    if ragged:
        lengths = torch.randint(STEPS // 5, 2 * STEPS - STEPS // 5 + 1, (EXAMPLES,), generator=generator)
    values = torch.randint(0, SYMBOLS, (int(lengths.sum()),), generator=generator)
    names = tuple(chr(40 + code) for code in range(SYMBOLS))
    return Sequences(values.to(torch.uint8), lengths, categories=names)


class Bare(nn.Module):
    """The same network out of torch's own parts."""

    def __init__(self, network: RecurrentModel) -> None:
        super().__init__()
        cell: Any = network.cell
        self.embedding = nn.Embedding(SYMBOLS + 1, EMBEDDING + 1)
        self.lstm, self.head = copy.deepcopy(cell.layer), copy.deepcopy(network.head.linear)

    def forward(self, before: Tensor) -> Tensor:
        """(B, L) codes to logits (B, L, M)."""
        return self.head(self.lstm(self.embedding(before))[0])


def bare_loop(network: nn.Module, before: Tensor, target: Tensor, lengths: Tensor, chosen: list[Tensor]) -> float:
    """An epoch; the mean loss. Targets are padded by -100, which cross_entropy leaves out."""
    optimiser, total = torch.optim.Adam(network.parameters(), lr=1e-3), 0.0
    network.train()
    for index in chosen:
        longest = int(lengths[index].max())
        logits = network(before[index, :longest])
        loss = functional.cross_entropy(logits.flatten(0, 1), target[index, :longest].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        total += loss.item()
    return total / len(chosen)


def network_loop(network: RecurrentModel, examples: Any, chosen: list[Tensor]) -> float:
    """An epoch over the network itself; the mean loss."""
    optimiser, total = torch.optim.Adam(network.parameters(), lr=1e-3), 0.0
    network.train()
    for index in chosen:
        scored = network.score(examples.take(index))
        loss = -scored.log_prob.sum() / scored.steps.sum()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        total += loss.item()
    return total / len(chosen)


def padded(series: Sequences) -> tuple[Tensor, Tensor]:
    """(N, L) the symbol before each step, SYMBOLS at the first, and the symbol, -100 after the end."""
    parts = series.values.long().split(series.lengths.tolist())
    target = nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=-100)
    before = target.roll(1, 1).clamp(min=0)
    before[:, 0] = SYMBOLS
    return before, target


def measure(batch: int, ragged: bool = False, bucketed: bool = False) -> dict[str, Any]:
    """Seconds of an epoch of each, turn by turn, and the losses that they found."""
    series = data(ragged)
    network = RecurrentModel.for_series(series, "categorical", "lstm", HIDDEN, embedding=EMBEDDING)
    before, target = padded(series)
    options: dict[str, Any] = {"epochs": 2, "batch_size": batch, "bucketed": bucketed}
    chosen = batches(series.lengths, 1, TrainingOptions(batch_size=batch, bucketed=bucketed))
    prepared = copy.deepcopy(network)
    prepared.prepare(series)
    examples = prepared.encode(series)
    seconds: dict[str, list[float]] = {"train": [], "same": [], "bare": [], "before": []}
    loss: dict[str, float] = {}
    for turn in range(TURNS + 1):  # the first warms up
        for name in ("train", "same", "bare") if turn % 2 else ("bare", "same", "train"):
            began = time.perf_counter()
            if name == "train":
                curves = train(network, series, **options).curves
                loss[name], last = curves["train"][0], curves["seconds"].tolist()
                seconds["before"].append(time.perf_counter() - began - last[1])
                seconds[name].append(last[1] - last[0])
            elif name == "same":
                loss[name] = network_loop(copy.deepcopy(prepared), examples, chosen)
                seconds[name].append(time.perf_counter() - began)
            else:
                loss[name] = bare_loop(Bare(network), before, target, series.lengths, chosen)
                seconds[name].append(time.perf_counter() - began)
    seconds = {name: values[1:] for name, values in seconds.items()}
    ratios = {
        name: statistics.median(ours / theirs for ours, theirs in zip(seconds["train"], seconds[name], strict=True))
        for name in ("same", "bare")
    }
    steps = series.total_steps
    return {
        "lengths": f"20 to 180{', bucketed' * bucketed}" if ragged else str(STEPS),
        "batch": batch,
        "threads": torch.get_num_threads(),
        "train_steps_per_second": steps / statistics.median(seconds["train"]),
        "same_steps_per_second": steps / statistics.median(seconds["same"]),
        "bare_steps_per_second": steps / statistics.median(seconds["bare"]),
        "ratios": ratios,
        "seconds_before": statistics.median(seconds["before"]),
        "loss": loss,
        "seconds": seconds,
    }


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """A row for each number of threads, kind of lengths and size of batches."""
    lines = [
        "| lengths | batch | threads | `train`, steps/s | seconds / loop over the network | / loop in bare torch |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        ours, (same, bare) = row["train_steps_per_second"], row["ratios"].values()
        lines.append(
            f"| {row['lengths']} | {row['batch']} | {row['threads']} | {ours:,.0f} | {same:.3f} | {bare:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    if sys.argv[1:] == ["--json"]:
        rows = [measure(32), measure(64), measure(32, ragged=True), measure(32, ragged=True, bucketed=True)]
        print(json.dumps(rows))
        return
    rows: list[dict[str, Any]] = []
    for threads in (1, 2):
        command = [sys.executable, "-m", "tests.benchmarks.training", "--json"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        rows += json.loads(done.stdout.splitlines()[-1])
    print(as_markdown(rows))
    (HERE / "training.json").write_text(json.dumps(rows, indent=1) + "\n")
    (HERE / "training.md").write_text(as_markdown(rows))


if __name__ == "__main__":
    main()
