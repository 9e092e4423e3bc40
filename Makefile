# `make quickstart` and `make test` work first on a machine with nothing but Python 3.11, make and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-fast check coverage lowest campaign reference bench reproduce notebooks site clean

quickstart: $(VENV)/core
	$(BIN)/seaanchor quickstart

test: $(VENV)/test
	$(BIN)/pytest -n 2

test-fast: $(VENV)/test
	$(BIN)/pytest -n 2 -m 'not slow and not exhaustive'

# What a change has to pass, without further cases of the same; `.ci/run` runs the same.
check: $(VENV)/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -n 2 -m 'not exhaustive' --durations=15

# By hand: all tests, and which lines of the core none of them runs.
coverage: $(VENV)/test
	$(BIN)/pytest -n 2 --cov --cov-report=term

# By hand, takes its time: the lowest versions that pyproject.toml allows, in an environment of their own.
lowest: $(VENV)/core
	$(BIN)/python tools/lowest_versions.py

# By hand, on a quiet machine: mutated inputs, bit flips and hostile files; one table.
campaign: $(VENV)/test
	$(BIN)/python -m tools.campaign $(SECTION) $(if $(COUNT),--count $(COUNT))

# docs/api.md, from the docstrings.
reference: $(VENV)/core
	$(BIN)/python tools/api_reference.py

# By hand, after a change of what the notebooks show: run them and keep what they print and draw.
notebooks: $(VENV)/test
	$(BIN)/python -m tools.notebooks

# The documentation as a site in dist/site, without a network.
site: $(VENV)/test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/core
	$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY)) $(if $(MISSING),--missing)

reproduce: $(VENV)/studies
	$(BIN)/python -m studies $(NAME)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/core: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/studies: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[studies]'
	touch $(VENV)/core $@

$(VENV)/test: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test]'
	touch $(VENV)/core $@

clean:
	rm -rf $(VENV) dist
