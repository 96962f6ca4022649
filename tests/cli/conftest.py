"""The command line run in this process, and a fit that it saved."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from probseq import datasets
from probseq.cli import main

EARTHQUAKES = str(datasets.path("earthquakes"))


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command; its exit code, standard output and standard error."""

    def command(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return command


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a two-state fit to the earthquakes, as the command line saves it."""
    place = tmp_path_factory.mktemp("cli") / "quakes"
    command = ["fit", EARTHQUAKES, "--column", "count", "--time", "year", "--states", "2", "--family", "poisson"]
    assert main([*command, "--restarts", "1", "--out", str(place)]) == 0
    return place
