"""Importing probseq costs nothing until a name is used, and every public name is there."""

import importlib
import subprocess
import sys
import time

import pytest

import probseq


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after `code`."""
    program = f"{code}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_import_loads_nothing_heavy() -> None:
    assert not loaded_by("import probseq") & {
        "torch",
        "pyro",
        "pandas",
        "numpy",
        "scipy",
        "numba",
        "matplotlib",
        "rich",
    }


def test_reading_data_needs_no_models() -> None:
    loaded = loaded_by("import probseq; probseq.Sequences.from_arrays([1.0, 2.0]).to_frame()")
    assert not loaded & {"pyro", "numba", "matplotlib", "typer", "rich", "jinja2", "pooch", "joblib"}


def test_every_public_name_is_listed_and_found() -> None:
    assert set(probseq.__all__) <= set(dir(probseq))
    for name in probseq.__all__:
        assert getattr(probseq, name) is not None
    with pytest.raises(AttributeError, match="module 'probseq' has no attribute 'no_such_name'"):
        importlib.import_module("probseq").no_such_name  # noqa: B018


@pytest.mark.slow
def test_import_time() -> None:
    """Importing probseq is within 25% of importing torch, pyro and pandas alone: the best of three runs each."""

    def seconds(code: str) -> float:
        runs = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            runs.append(time.perf_counter() - start)
        return min(runs)

    alone = "import torch, pyro, pandas"
    assert seconds(f"{alone}; import probseq") < 1.25 * seconds(alone)
