"""The command line: `probseq fit`, `decode`, `forecast`, `simulate`, `report`, `datasets` and `demo`."""

from probseq.cli.main import main

__all__ = ["main"]
