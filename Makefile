# Everything is installed into .venv; Python 3.11 or newer and make are all that is needed.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet
# A test process for each core; tests that share what is slow to make (`xdist_group`) are left to one of them.
ALONGSIDE := --numprocesses auto --dist loadgroup
# Hundreds of processes are started by tests: not each is to compile the library anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-pythons check bench bench-peers clean
.DELETE_ON_ERROR:

demo: $(VENV)/base
	$(RUN) -m cortical demo

test: $(VENV)/test
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest $(ALONGSIDE) $(TESTS)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report

check: $(VENV)/dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m mypy --python-version 3.13 cortical
	$(RUN) -m pytest -q tests/unit/test_layers.py tests/docs
	$(RUN) -m benchmarks start_up package

bench: $(VENV)/bench
	$(RUN) -m benchmarks

# TESTS says which, with options of pytest too, for each Python of pyproject.toml that is here.
test-pythons: $(VENV)/test
	$(RUN) -m tests.pythons $(ALONGSIDE) $(TESTS)

# Each peer gets an environment of its own below .venv/peers.
bench-peers: $(VENV)/base
	$(RUN) -m benchmarks.peers

clean:
	rm -rf $(VENV) .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis dist cortical-demo.*
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/base: pyproject.toml $(VENV)/made
	$(PIP) install --editable .
	touch $@

$(VENV)/bench: pyproject.toml $(VENV)/made
	$(PIP) install --editable '.[bench]'
	touch $@

$(VENV)/test: pyproject.toml $(VENV)/made
	$(PIP) install --editable '.[test]'
	touch $@

$(VENV)/dev: pyproject.toml $(VENV)/made
	$(PIP) install --editable '.[dev]'
	touch $@
