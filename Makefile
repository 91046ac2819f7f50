# make demo   a live demo in your terminal        make test   everything that needs no cluster
# Both set themselves up in .venv; all they need is make and Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
JOBS ?= 3
SEEDS ?= 20
SEED ?=
SIZE ?= long
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check chaos test-cluster cluster-assets bench schema format clean

help:
	@echo "make demo           a live demo: PostgreSQL, Redis, a cluster, a load, the dashboard"
	@echo "make demo ARGS='--headless --json'    the same by itself, with a report"
	@echo "make test           all tests that need no cluster, but for the slowest ones"
	@echo "make test-all       these too"
	@echo "make check          ruff, mypy, import contracts"
	@echo "make chaos SEEDS=200   releases in which somebody interferes at random moments; SEED=17 repeats one"
	@echo "make test-cluster   tests/cluster on the embedded cluster and on KUBEBUILDER_ASSETS"
	@echo "make bench          the figures of benchmarks/README.md"

demo: $(VENV)/.demo
	@$(BIN)/zdd demo $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist load --maxschedchunk 1 $(ARGS)

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist load --maxschedchunk 1 -m "" $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

chaos: $(VENV)/.dev
	$(BIN)/python -m tests.chaos.saboteur --size $(SIZE) $(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(ARGS)

test-cluster: $(VENV)/.dev
	$(BIN)/python -m pytest tests/cluster --override-ini 'addopts=-ra --strict-markers --strict-config' $(ARGS)

cluster-assets:
	tests/cluster/build-assets cluster-assets
	@echo "now: KUBEBUILDER_ASSETS=$(CURDIR)/cluster-assets make test-cluster"

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

schema: $(VENV)/.dev
	$(BIN)/python config/make_schema.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# --- set-up -------------------------------------------------------------------------------------------------

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "zdd-tui needs Python 3.11 or newer; say which: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv module is missing: install it (Debian: apt install python3-venv)" >&2; exit 2; }

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "setting up .venv (once)" >&2
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "setting up .venv for development (once)" >&2
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.demo
