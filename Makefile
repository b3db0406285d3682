# Everything a checkout needs: Python 3.10 or newer, make and pip. Nothing is left outside it but packages.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-slow bench lint test-all clean

demo: $(VENV)/.demo
	$(BIN)/km-logging demo

# Against the wheel that pip builds and installs; tests/conftest.py checks that it is no other copy. ARGS is for pytest.
# Half of the time is waiting, so there are three processes even on two cores; ARGS=-n0 for one. A file stays together,
# and the files in order: those with most tests are not the longest.
test: $(VENV)/.test
	$(BIN)/pytest -m 'not slow' -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(ARGS)

# The long proofs: soaks, signals in the middle of everything, forks in all ways.
test-slow: $(VENV)/.test
	$(BIN)/pytest -m slow $(ARGS)

# Side by side with the peers, in an environment of its own; takes some ten minutes, and wants a quiet machine.
bench:
	$(PYTHON) benchmarks/bench.py $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Each Python that is there, with an environment of its own.
test-all:
	@for version in 3.10 3.11 3.12 3.13; do \
	  if command -v python$$version >/dev/null && python$$version -c 'import ensurepip' 2>/dev/null; then \
	    $(MAKE) test PYTHON=python$$version VENV=.venv-$$version || exit 1; \
	  else echo "skipped: python$$version is not here"; fi; \
	done

clean:
	rm -rf .venv .venv-* build dist .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

SOURCES = pyproject.toml README.md $(shell find km_logging -type f -not -name '*.pyc')

$(VENV)/.demo: $(VENV)/bin/python $(SOURCES)
	$(BIN)/python -m pip install --quiet '.[cli,sandbox]'
	touch $@

$(VENV)/.test: $(VENV)/bin/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --group test '.[all]'
	$(BIN)/python tests/support/system.py
	$(BIN)/python -m pip install --quiet --no-deps py-KISSmetrics==1.1.0  # by itself it would want an old urllib3
	touch $@

$(VENV)/.lint: $(VENV)/bin/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --group lint '.[all]'
	touch $@
