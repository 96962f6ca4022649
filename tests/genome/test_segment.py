"""A genome in segments: the published ones, and those of the whole tables that streaming never makes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from probseq import DataError, Fit, ModelError, Sequences, datasets, segment
from probseq.genome.training import choose_stretches, spread_stretches
from tests.genome.conftest import LENGTHS
from tests.ucsc import check_bed, check_bedgraph


def test_phage_lambda_in_its_published_segments(tmp_path: Path) -> None:
    """Starts counted from 1: 1, 177, 22500, 31225, 33187, 38366, 46494 (Braun & Müller 1998's model)."""
    found = segment(datasets.path("phage_lambda"), 2, out=tmp_path / "lambda.bed", restarts=2)
    assert found.fit.log_likelihood == pytest.approx(-66678.071, abs=5.1e-4)
    assert (found.segments["start"] + 1).tolist() == [1, 177, 22500, 31225, 33187, 38366, 46494]
    rows = check_bed((tmp_path / "lambda.bed").read_text(), {"NC_001416.1": 48_502})
    assert [int(row[1]) for row in rows] == found.segments["start"].tolist()
    states = found.states.set_index("name")
    poor, rich = ("state0", "state1") if states["G"].iloc[1] > states["G"].iloc[0] else ("state1", "state0")
    assert states.loc[poor, "reading"].startswith("AT-rich") and states.loc[rich, "reading"].startswith("GC-rich")
    assert states.loc[[poor, rich], "segments"].tolist() == [4, 3]
    assert states["bases"].sum() == 48_502 == found.bases


@pytest.mark.parametrize("order", [0, 2])
@pytest.mark.parametrize("numbers", [1 << 10, 1 << 22])
def test_streaming_gives_what_the_whole_tables_say(
    genome: Path, tmp_path: Path, small_blocks, order: int, numbers: int
) -> None:
    small_blocks(numbers)
    out = tmp_path / "deep" / "x.bed"
    found = segment(genome, 2, order=order, out=out, restarts=1, track=True)
    series = Sequences.from_fasta(genome)
    posterior = found.fit.posterior(series)
    path, smoothed = posterior.viterbi.numpy(), posterior.smoothed.numpy()
    rows = check_bed(out.read_text(), LENGTHS)
    for number, (name, length) in enumerate(LENGTHS.items()):
        start = int(series.offsets[number])
        here = found.segments[found.segments["record"] == name]
        lengths = here["end"] - here["start"]
        assert np.array_equal(np.repeat(here["state"], lengths), path[start : start + length])
        own = smoothed[np.arange(len(path)), path][start : start + length]
        scores = np.add.reduceat(own, here["start"]) / lengths
        np.testing.assert_allclose(here["score"], scores, rtol=0, atol=1e-12)
        assert [int(row[4]) for row in rows if row[0] == name] == np.rint(1000 * scores).astype(int).tolist()
    for state, file in enumerate(found.files[1:]):
        assert file.name == f"x.state{state}.bedGraph"
        signal = check_bedgraph(file.read_text(), LENGTHS)
        whole = np.concatenate([signal[name] for name in LENGTHS])
        np.testing.assert_allclose(whole, smoothed[:, state], rtol=0, atol=0.0005 + 1e-9)  # three digits
        runs = file.read_text().count("\n") - 1
        assert runs == sum(1 + np.count_nonzero(np.diff(values)) for values in signal.values())


def test_composition_is_counted_over_known_bases(genome: Path) -> None:
    found = segment(genome, 2, restarts=1)
    series = Sequences.from_fasta(genome)
    path = np.concatenate(
        [
            np.repeat(part["state"], part["end"] - part["start"])
            for _, part in found.segments.groupby("record", sort=False)
        ]
    )
    seen = series.step_observed.numpy()
    for state, row in enumerate(found.states.itertuples()):
        codes = series.values.numpy()[seen & (path == state)]
        counts = np.bincount(codes, minlength=4)
        assert pytest.approx((counts / counts.sum()).tolist()) == [row.A, row.C, row.G, row.T]
        assert row.bases == (path == state).sum() and row.mean_length == pytest.approx(row.bases / row.segments)


def test_the_same_letters_written_otherwise(genome: Path, disguised: Path, small_blocks) -> None:
    found = segment(genome, 2, restarts=1)
    small_blocks(777)
    again = segment(disguised, 2, restarts=1)
    assert again.fit.log_likelihood == found.fit.log_likelihood
    pd.testing.assert_frame_equal(again.segments, found.segments, rtol=1e-12)  # scores are summed block by block
    assert again.files == ()


def test_a_part_of_a_genome_is_fitted_to_with_priors(genome: Path, tmp_path: Path) -> None:
    found = segment(genome, 2, fit_bases=5_000, restarts=1)
    assert found.fit_bases == 5_000 and found.fit.with_priors and found.bases == sum(LENGTHS.values())
    whole = segment(genome, 2, fit_bases=0, restarts=1)
    assert whole.fit_bases == whole.bases and not whole.fit.with_priors
    again = Fit.load(whole.fit.save(tmp_path / "fit"))
    assert (
        again.log_prob(Sequences.from_fasta(genome)).tolist()
        == whole.fit.log_prob(Sequences.from_fasta(genome)).tolist()
    )


def test_a_long_genome_is_fitted_from_where_its_stretches_end(genome: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = segment(genome, 2, order=1, restarts=2)
    monkeypatch.setattr("probseq.genome.segmentation.FIT_BASES", 6_000)
    found = segment(genome, 2, order=1, restarts=2, fit_bases=0)
    assert found.fit_bases == found.bases and len(found.fit.attempts) == 1 and not found.fit.with_priors
    assert found.fit.log_likelihood == pytest.approx(expected.fit.log_likelihood, abs=0.01)  # the same maximum


def test_stretches_are_spread_and_do_not_overlap() -> None:
    lengths = {"a": 3_000_000, "tiny": 500, "b": 1_000_000}
    chosen = choose_stretches(lengths, 2_000_000)
    total = 0
    for name, stretches in chosen.items():
        for (start, end), (following, _) in zip(stretches, [*stretches[1:], (lengths[name], 0)], strict=True):
            assert 0 <= start < end <= following
            total += end - start
    assert total == 2_000_000 and len(chosen["a"]) == 15 and len(chosen["b"]) == 5
    assert choose_stretches(lengths, 10**9) == {name: [(0, length)] for name, length in lengths.items()}
    assert choose_stretches({"a": 1_000}, 10) == {"a": [(495, 505)]}


def test_a_stretch_that_is_mostly_unknown_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "gap.fa").write_text(">gap\n" + "N" * 200_000 + "\n>known\n" + "ACGT" * 50_000 + "\n")
    data = spread_stretches(tmp_path / "gap.fa", 200_000)
    assert data.series.ids.tolist() == ["known:50001-150000"] and not data.whole


def test_a_record_without_any_base_and_one_of_one_base(tmp_path: Path) -> None:
    (tmp_path / "x.fa").write_text(">n\nNNNN\n>one\nA\n>more\n" + "ACGGT" * 40 + "\n")
    found = segment(tmp_path / "x.fa", 2, order=1, out=tmp_path / "x.bed", restarts=1)
    check_bed((tmp_path / "x.bed").read_text(), {"n": 4, "one": 1, "more": 200})
    assert found.bases == 205


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ModelError, "states must be given without labels"),
        ({"states": 0}, ModelError, "states must be at least 1, got 0"),
        ({"states": 2, "order": -1}, ModelError, "must not be negative, got -1"),
        ({"states": 2, "order": 20}, ModelError, "got 4 and order 20"),
        ({"states": 2, "out": "/dev/null/x.bed"}, DataError, "the output must be written"),
    ],
)
def test_refusals(genome: Path, options: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        segment(genome, **options)


@pytest.mark.slow
def test_ten_million_bases_in_bounded_memory() -> None:
    """Measured 370 MB beside the imports, most of it fixed, at 10 Mb; 690 MB, 7 bytes a base, at 100 Mb."""
    import json
    import subprocess
    import sys

    command = [sys.executable, "-m", "tests.benchmarks.genome", "10000000"]
    done = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    print(done)
    assert done["peak_bytes_beyond_imports"] < 600e6  # a table of two states by bases alone is 160 MB
    assert done["ns_per_base"] < 2_000
