"""What all tests share: a clean Pyro between tests, and the data that may not be committed."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")
os.environ.setdefault("MPLBACKEND", "Agg")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def clean_pyro() -> Iterator[None]:
    """No parameter of one test is seen by the next."""
    yield
    if "pyro" in sys.modules:
        sys.modules["pyro"].clear_param_store()


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """The path of a data file that is not part of the repository; the test is skipped where it is absent."""

    def path(name: str) -> Path:
        folder = os.environ.get("PROBSEQ_SHARED_DATA") or REPOSITORY.parent / "shared" / "data"
        file = Path(folder) / name
        if not file.is_file():
            pytest.skip(f"{name} is not redistributed; set PROBSEQ_SHARED_DATA to the folder that holds it")
        return file

    return path
