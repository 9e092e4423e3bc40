# `make quickstart` and `make test` work first on a machine with nothing but Python 3.11, make and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test check bench reproduce clean

quickstart: $(VENV)/core
	$(BIN)/seaanchor quickstart

test: $(VENV)/test
	$(BIN)/pytest -n 2

check: $(VENV)/test
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest -n 2

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
