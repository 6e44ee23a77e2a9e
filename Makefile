# Everything is installed into .venv; Python 3.11 or newer and make are all that is needed.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet

.PHONY: demo test check bench bench-peers docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/base
	$(RUN) -m cortical demo

test: $(VENV)/test
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest $(TESTS)
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report

check: $(VENV)/dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest -q tests/unit/test_layers.py tests/docs

bench: $(VENV)/bench
	$(RUN) -m benchmarks

# Each peer gets an environment of its own below .venv/peers.
bench-peers: $(VENV)/base
	$(RUN) -m benchmarks.peers

# The pages as a site, to be read in a browser from dist/site/index.html; a link that leads nowhere is an error.
docs: $(VENV)/docs
	$(RUN) -m sphinx -q -W --keep-going -c docs/site -d dist/doctrees docs dist/site

clean:
	rm -rf $(VENV) .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

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
