"""A small genome of two records in two compositions, written in every way that FASTA allows."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

LENGTHS = {"chr2": 9_000, "chr10": 4_000}


def letters() -> dict[str, str]:
    """AT-rich and GC-rich stretches of 1,000 bases in turn; some N, one run of them, some other codes."""
    rng, found = np.random.default_rng(0), {}
    for name, length in LENGTHS.items():
        law = np.array([[0.4, 0.1, 0.1, 0.4], [0.1, 0.4, 0.4, 0.1]])[np.arange(length) // 1000 % 2]
        codes = (rng.random(length)[:, None] > law.cumsum(1)[:, :3]).sum(1)
        text = np.array(list("ACGT"))[codes]
        text[rng.random(length) < 0.01] = "N"
        text[2_500:2_600] = "R"
        found[name] = "".join(text)
    return found


@pytest.fixture(scope="session")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One line a record."""
    place = tmp_path_factory.mktemp("genome") / "small.fa"
    place.write_text("".join(f">{name} of a test\n{text}\n" for name, text in letters().items()))
    return place


@pytest.fixture
def disguised(tmp_path: Path) -> Path:
    """The same records gzipped, in lower case, with Windows line ends and lines of 61."""
    lines = []
    for name, text in letters().items():
        lines += [f">{name}", *(text[at : at + 61].lower() for at in range(0, len(text), 61))]
    place = tmp_path / "disguised.fa.gz"
    place.write_bytes(gzip.compress("\r\n".join(lines).encode()))
    return place


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make blocks of the smoother, of the reader and of the Viterbi recursion small."""

    def shrink(numbers: int) -> None:
        from probseq.io import fasta
        from probseq.kernels import decoding, streaming

        monkeypatch.setattr(streaming, "NUMBERS", numbers)
        monkeypatch.setattr(decoding, "ROOM", 4 * numbers)
        monkeypatch.setattr(fasta, "_BLOCK", numbers)

    return shrink


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Small genomes are slower on two threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
