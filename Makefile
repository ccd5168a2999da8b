# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# One process for each core, four at most; `make test PARALLEL=` runs them one after another.
PARALLEL ?= -n auto --maxprocesses 4 --dist worksteal
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-all check docs format clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo      install, then run the main job on people who do not exist"
	@echo "make test      install, then run the test suite (10 to 25 minutes on 2 cores)"
	@echo "make test-all  the slow tests as well"
	@echo "make check     lint, types, layers and docs"
	@echo "make docs      build the documentation into site/"

# constraints.txt pins everything: see its head for why it is needed.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "privemo needs Python 3.11 or newer; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[all,dev]"
	@touch $@

demo: $(INSTALLED)
	$(BIN)/privemo demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# On the disk, also where `make test` keeps its temporary files in memory.
test-all: $(INSTALLED)
	TMPDIR=$(or $(TMPDIR),/tmp) $(BIN)/python -m pytest $(PARALLEL)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict

docs: $(INSTALLED)
	$(BIN)/mkdocs build --strict

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
