"""The command line: `probseq fit`, `decode`, `forecast`, `simulate`, `report`, `segment`, `datasets` and `demo`."""

from probseq.cli.main import main

__all__ = ["main"]
