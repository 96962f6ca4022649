"""Cells of torch cost what torch costs."""

import pytest
import torch

from tests.benchmarks.recurrent import pairs, seconds_in_turns


@pytest.mark.slow
def test_cells_of_torch_are_as_fast_as_torch() -> None:
    """Equal lengths within the noise of a shared machine, which is some 10%; ragged ones well below torch's packing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ratios = {name: seconds_in_turns(*pair)[2] for name, pair in pairs().items() if "beside" not in name}
    finally:
        torch.set_num_threads(threads)
    assert {name: ratio for name, ratio in ratios.items() if ratio > 1.1} == {}
    assert ratios["LSTM, ragged"] < 0.5
