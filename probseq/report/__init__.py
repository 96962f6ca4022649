"""One self-contained HTML page about a fit: what was chosen, what the states mean, and whether to believe it."""

from probseq.report.chapter import Chapter
from probseq.report.page import write_report

__all__ = ["Chapter", "write_report"]
