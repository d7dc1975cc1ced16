# Two commands do everything on a machine with Python and make: `make demo` and `make test`.
#
# The environment stands in .venv. What is installed is remembered in stamps there, so that
# a second run starts at once; a change of pyproject.toml or constraints.txt installs again.

PYTHON ?= python3
WORKERS ?= 4
OUT ?=

VENV := .venv
BIN := $(VENV)/bin
PINS := $(abspath constraints.txt)
STAMP := $(VENV)/.installed

# The pins hold for what is built as well as for what is installed, in old and new versions of pip.
export PIP_CONSTRAINT := $(PINS)
export PIP_BUILD_CONSTRAINT := $(PINS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
INSTALL := $(BIN)/python -m pip install --quiet --constraint $(PINS)

# Test processes share the machine: one thread each, and threads that wait must not spin.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest -n logical --maxprocesses $(WORKERS) --dist worksteal

MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help install demo test prove check format bench docs clean

help:
	@echo "make demo     install, then run the main job on the images that Fieldmark carries"
	@echo "make test     install what tests need and run them all"
	@echo "make prove    the same proofs at full size (long)"
	@echo "make check    format, lint, types, import contracts, syntax-tree gates"
	@echo "make format   rewrite the code as the check wants it"
	@echo "make bench    measure against named peers, into benchmarks/RESULTS.md"
	@echo "make docs     build the documentation into docs/_build/html"
	@echo "make clean    remove the environment and everything that was built"

install: $(STAMP)-base

demo: $(STAMP)-base
	@$(BIN)/fieldmark demo $(if $(OUT),--out "$(OUT)")

test: $(STAMP)-test
	$(PYTEST) $(ARGS)

prove: $(STAMP)-test
	$(ONE_THREAD) $(BIN)/python -m pytest -m prove --timeout 7200 $(ARGS)

check: $(STAMP)-check
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tools.law5
	$(BIN)/python -m tools.sizes

format: $(STAMP)-check
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)-bench
	$(BIN)/python -m benchmarks.run $(ARGS)

docs: $(STAMP)-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

clean:
	rm -rf $(VENV) docs/_build build dist out
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP)-base: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Fieldmark into $(VENV) ..." >&2
	@$(INSTALL) --editable .
	@touch $@

$(STAMP)-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Fieldmark with what '$*' needs into $(VENV) ..." >&2
	@$(INSTALL) --editable '.[$*]'
	@touch $@
