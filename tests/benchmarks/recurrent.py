"""One pass of training, forward and backward, through recurrent layers: these cells beside bare torch.nn.

python -m tests.benchmarks.recurrent

Both are the same library in the same process, so that calls take turns and ratios are medians over neighbours. Batches
of 32 sequences of 100 steps, 64 inputs, 64 units, float32, one thread; ragged ones have 20 to 100 steps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from probseq.recurrent import GRU, LSTM, Delayed, FourDirections, Leaky, RecurrentLayer, Vanilla

BATCH, STEPS, SIZE = 32, 100, 64
Pass = Callable[[], object]


def training_pass(layer: nn.Module, outputs: Callable[[], Tensor]) -> Pass:
    weights = list(layer.parameters())
    return lambda: torch.autograd.grad(outputs().square().sum(), weights)


def ours(layer: RecurrentLayer, inputs: Tensor, lengths: Tensor) -> Pass:
    return training_pass(layer, lambda: layer.unroll(inputs, lengths)[0])


def bare(layer: nn.Module, inputs: Tensor) -> Pass:
    return training_pass(layer, lambda: layer(inputs)[0])


def packed(layer: nn.Module, inputs: Tensor, lengths: Tensor) -> Pass:
    def outputs() -> Tensor:
        ran, _ = layer(pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False))
        return pad_packed_sequence(ran, batch_first=True, total_length=inputs.shape[1])[0]

    return training_pass(layer, outputs)


def seconds_in_turns(one: Pass, other: Pass, rounds: int = 40) -> tuple[float, float, float]:
    """The median of each, and of the ratios of neighbouring calls."""
    taken = []
    for number in range(rounds + 3):
        pair = {}
        for call in (one, other) if number % 2 else (other, one):
            began = time.perf_counter()
            call()
            pair[call] = time.perf_counter() - began
        taken.append((pair[one], pair[other]))
    mine, its = zip(*taken[3:], strict=True)  # the first ones make kernels and fill caches
    return statistics.median(mine), statistics.median(its), statistics.median(a / b for a, b in taken[3:])


def pairs() -> dict[str, tuple[Pass, Pass]]:
    """By name: one of these cells, and what torch has for it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs = torch.randn(BATCH, STEPS, SIZE)
        ragged = torch.randint(20, STEPS + 1, (BATCH,))
    ragged[0] = STEPS
    equal = torch.full((BATCH,), STEPS)
    found: dict[str, tuple[Pass, Pass]] = {}
    for cell, layer in ((LSTM, nn.LSTM), (GRU, nn.GRU), (Vanilla, nn.RNN)):
        mine, its = cell(SIZE, SIZE), layer(SIZE, SIZE, batch_first=True)
        found[f"{cell.__name__}, equal lengths"] = ours(mine, inputs, equal), bare(its, inputs)
        found[f"{cell.__name__}, ragged"] = ours(mine, inputs, ragged), packed(its, inputs, ragged)
    rnn = nn.RNN(SIZE, SIZE, batch_first=True)
    for cell in (Leaky(SIZE, SIZE, tau=2.0, learned=True), Delayed(SIZE, SIZE, delays=[10])):
        name = type(cell).__name__
        found[f"{name} beside nn.RNN, equal lengths"] = ours(cell, inputs, equal), bare(rnn, inputs)
        found[f"{name} beside nn.RNN, ragged"] = ours(cell, inputs, ragged), packed(rnn, inputs, ragged)
    return found


def images_a_second(cell: str) -> float:
    """Training passes over 32 images of 28 x 28 pixels, 16 units in each direction."""
    layer = FourDirections(1, 16, cell=cell)  # pyright: ignore
    call = training_pass(layer, lambda: layer(images))
    images = torch.zeros(BATCH, 1, 28, 28)
    return BATCH / seconds_in_turns(call, lambda: None, rounds=5)[0]


def main() -> None:
    """Measure all, print the table and keep it beside this file."""
    torch.set_num_threads(1)
    lines = ["| training pass | probseq, ms | torch.nn, ms | ratio |", "|---|---|---|---|"]
    for name, pair in pairs().items():
        mine, its, ratio = seconds_in_turns(*pair)
        lines.append(f"| {name} | {1e3 * mine:.1f} | {1e3 * its:.1f} | {ratio:.2f} |")
    speeds = " and ".join(f"{images_a_second(cell):.0f} ({cell})" for cell in ("vanilla", "lstm"))
    text = "\n".join(
        [
            "Written by `python -m tests.benchmarks.recurrent`: forward and backward, 32 sequences of 100 steps, 64",
            "inputs, 64 units, float32, one thread. Ragged batches have 20 to 100 steps and are packed for torch.nn.",
            "",
            *lines,
            "",
            f"`FourDirections`, 16 units in each, trains on {speeds} images of 28 x 28 pixels a second.",
            "",
        ]
    )
    print(text)
    (Path(__file__).parent / "recurrent.md").write_text(text)


if __name__ == "__main__":
    main()
