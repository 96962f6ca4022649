"""Side by side with other packages: `make bench` (or python -m tests.benchmarks)."""
