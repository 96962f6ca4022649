"""A training that is killed by SIGKILL, between two updates and amid the writing of its checkpoint, and resumed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from probseq import NetworkFit, train
from probseq.inference import training_run
from probseq.inference.training_checkpoint import NAME
from probseq.io import writing
from tests.inference.letter_network import LetterNetwork, letters
from tests.inference.test_training import same_weights

OPTIONS = {"validation": 0.25, "epochs": 5, "batch_size": 5, "learning_rate": 0.02, "patience": None, "seed": 2}


def run(directory: Path) -> NetworkFit:
    """The run of these tests, with something random in the network and a checkpoint after every batch."""
    options = {**OPTIONS, "directory": directory, "resume": True, "checkpoint_minutes": 0.0}
    return train(LetterNetwork(dropped=0.3), letters(), **options)


def die_in_update(number: int) -> None:
    """Arrange for this process to be killed within the update of that number."""
    inner, calls = training_run.update, []

    def update(network, examples, optimiser, options):  # noqa: ANN001, ANN202
        calls.append(1)
        found = inner(network, examples, optimiser, options)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    training_run.update = update


def die_in_writing(number: int) -> None:
    """Arrange for this process to be killed when half of the checkpoint of that number is written."""
    inner, calls = writing.written_whole, []

    class Half:
        def __init__(self, stream):  # noqa: ANN001
            self.stream = stream

        def write(self, content: bytes) -> None:
            calls.append(1)
            if len(calls) == number:
                self.stream.write(content[: len(content) // 2])
                self.stream.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            self.stream.write(content)

    class Written:
        def __init__(self, path):  # noqa: ANN001
            self.whole = inner(path)

        def __enter__(self) -> Half:
            return Half(self.whole.__enter__())

        def __exit__(self, *found):  # noqa: ANN002, ANN204
            return self.whole.__exit__(*found)

    writing.written_whole = Written


@pytest.mark.parametrize("death", ["die_in_update(7)", "die_in_writing(11)"])
def test_a_killed_run_ends_as_the_one_that_was_not(death: str, tmp_path: Path) -> None:
    """Five epochs of four batches; both deaths are in the second epoch or the third."""
    code = f"from tests.inference import test_training_killed as t; from pathlib import Path; t.{death}; "
    code += f"t.run(Path({json.dumps(str(tmp_path))}))"
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    died = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert (tmp_path / NAME).exists() and not (tmp_path / "network.json").exists()
    halves = list(tmp_path.glob(f".{NAME}-*"))
    assert len(halves) == (1 if "writing" in death else 0)
    resumed = run(tmp_path)
    whole = train(LetterNetwork(dropped=0.3), letters(), **OPTIONS)
    assert same_weights(resumed.network, whole.network) and resumed.best_epoch == whole.best_epoch
    pd.testing.assert_frame_equal(resumed.curves.drop(columns="seconds"), whole.curves.drop(columns="seconds"))
    assert not list(tmp_path.glob(".*")) and (tmp_path / "network.json").exists()
