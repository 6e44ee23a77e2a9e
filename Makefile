# Everything is installed into .venv; Python 3.11 or newer and make are all that is needed.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet
# A test process for each core; tests that share what is slow to make (`xdist_group`) are left to one of them.
ALONGSIDE := --numprocesses auto --dist loadgroup
# Hundreds of processes are started by tests: not each is to compile the library anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-pythons soak check bench bench-peers figures docs clean
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

# All figures taken anew, and written into docs/performance.md.
figures: $(VENV)/bench
	mkdir -p dist
	$(RUN) -m benchmarks --json dist/figures.json
	$(RUN) -m benchmarks.peers --json dist/peers.json
	$(RUN) -m benchmarks.growth docs/growth.svg
	$(RUN) -m benchmarks.report dist/figures.json dist/peers.json

# Ten minutes of what the tests do for one: processes on one store, killed, stopped and out of disk.
soak: $(VENV)/test
	$(RUN) -m tests.soak --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

# TESTS says which, with options of pytest too, for each Python of pyproject.toml that is here.
test-pythons: $(VENV)/test
	$(RUN) -m tests.pythons $(ALONGSIDE) $(TESTS)

# Each peer gets an environment of its own below .venv/peers.
bench-peers: $(VENV)/base
	$(RUN) -m benchmarks.peers

# The pages as a site, to be read in a browser from dist/site/index.html; a link that leads nowhere is an error.
docs: $(VENV)/docs
	$(RUN) -m sphinx -q -W --keep-going -c docs/site -d dist/doctrees docs dist/site

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

$(VENV)/docs: pyproject.toml $(VENV)/made
	$(PIP) install --editable '.[docs]'
	touch $@

$(VENV)/test: pyproject.toml $(VENV)/made
	$(PIP) install --editable '.[test]'
	touch $@

$(VENV)/dev: pyproject.toml $(VENV)/made
	$(PIP) install --editable '.[dev]'
	touch $@
