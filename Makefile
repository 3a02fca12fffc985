# `make` alone says what there is. Everything runs in .venv, which scripts/bootstrap makes from the locks in requirements/.

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
# Test processes, each with its own Postgres and Redis: most tests wait rather than work, so two cores are busy with four.
JOBS ?= 4
# Arguments for pytest: make test ARGS='-k claim'
ARGS ?=
# Which schedule of faults, and how many of it: make chaos SEED=7 FAULTS=500
SEED ?= 1
FAULTS ?= 200
UV := uv==0.13.8

CODE := gsd_tasks tests $(wildcard api.py benchmarks) scripts

# Of the caller's environment, only what says where packages come from may reach pip, and nothing of it Python: PIP_TARGET,
# PIP_CONSTRAINT, PYTHONPATH, PYTHONWARNINGS, PYTHONOPTIMIZE and the like change what is installed, or what a test means.
PIP_KEPT := CONFIG_FILE INDEX_URL EXTRA_INDEX_URL NO_INDEX FIND_LINKS CERT CLIENT_CERT TRUSTED_HOST PROXY KEYRING_PROVIDER \
  CACHE_DIR NO_CACHE_DIR TIMEOUT DEFAULT_TIMEOUT RETRIES
unexport $(filter-out $(PIP_KEPT:%=PIP_%),$(filter PIP_% PYTHON%,$(.VARIABLES)))
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test check format-check lint types imports suite chaos bench openapi reference docs format install lock clean
.NOTPARALLEL:

help: ## What there is
	@echo 'gsd-tasks: targets of make'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16
	@echo
	@echo "Each makes $(VENV) first if need be; PYTHON=/path/to/python3 chooses its interpreter (3.11 or newer)."

demo: ## Start a whole cluster on this machine and show it at work
	@scripts/bootstrap demo
	@$(BIN)/gsd-tasks demo

test: check suite ## All checks, then all tests: what CI runs

check: format-check lint types imports ## Format, lint, types and layers, no tests

format-check: install
	$(BIN)/ruff format --check $(CODE)

lint: install ## Ruff, every rule on
	$(BIN)/ruff check $(CODE)

types: install ## Mypy, strict
	$(BIN)/mypy $(CODE)

imports: install ## Who may import what
	$(BIN)/lint-imports --no-logo

suite: install ## All tests; ARGS='-k claim' for some
	$(BIN)/pytest -n $(JOBS) $(ARGS)

chaos: install ## A cluster under attack; SEED=7 FAULTS=500 for another schedule
	$(BIN)/python -m tests.chaos --seed $(SEED) --faults $(FAULTS)

bench: install ## Figures beside yardsticks and peers; ARGS='--only F1 --repetitions 3' for some
	@scripts/bootstrap bench
	$(BIN)/python -m benchmarks $(ARGS)

openapi: install ## Write docs/openapi.json anew from the routes
	$(BIN)/python -m gsd_tasks.http.export

reference: install ## Write the pages that are made from the code anew
	$(BIN)/python -m scripts.reference

docs: install ## Build the pages into build/pages; what leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: install ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only --exit-zero $(CODE)
	$(BIN)/ruff format $(CODE)

install: ## Make .venv with everything for development
	@scripts/bootstrap dev

lock: ## Write requirements/*.txt anew from pyproject.toml; ARGS=--upgrade for the newest versions
	@scripts/bootstrap venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target $(VENV)/uv '$(UV)'
	PATH="$(VENV)/uv/bin:$$PATH" scripts/lock $(ARGS)

clean: ## Remove .venv, caches and build products
	rm -rf $(VENV) $(VENV)-bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
