# Every target works in a fresh clone with Python 3.11 or newer and make: what it needs is installed into .venv first.
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
INPUTS := pyproject.toml constraints.txt
PYTEST := $(BIN)/python -m pytest

.PHONY: help demo test test-slow check lint types doctest bench clean

help:
	@echo "make demo       fit hidden Markov models to daily rainfall and write a report"
	@echo "make test       the test suite, without what is marked slow"
	@echo "make test-slow  calibration, long recovery and scale"
	@echo "make check      format, lint, types, floors, tests and doctests"
	@echo "make bench      side by side with other packages"
	@echo "make clean      remove the environment and caches"

demo: $(VENV)/.core
	$(BIN)/probseq demo

# Two workers, a file to each at a time; one torch thread each, so that they do not stand in each other's way.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist loadfile

# The samplers' calibration (tests/diagnostics/test_sbc.py) takes about an hour of it, what networks learn half an hour.
test-slow: $(VENV)/.test
	$(PYTEST) -m slow

check: lint types test doctest

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.test
	$(BIN)/pyright --pythonpath $(BIN)/python

doctest: $(VENV)/.test
	$(PYTEST) --doctest-modules probseq

bench: $(VENV)/.bench
	$(BIN)/python -m tests.benchmarks
	$(BIN)/python -m tests.benchmarks.posterior
	$(BIN)/python -m tests.benchmarks.training

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp file stands for each finished install, so that a second run installs nothing.
$(VENV)/.python:
	@for python in python3.11 python3 python; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "probseq needs Python 3.11 or newer, found none on the path; install one." >&2; exit 2; fi; \
	$$found -m venv $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.python $(INPUTS)
	@echo "installing probseq into $(VENV) (a minute or two, the first time)"
	$(INSTALL) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(INSTALL) -e ".[test]"
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(INSTALL) -e ".[bench]"
	@touch $@
