PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Another interpreter is another environment: `make test PYTHON=python3.13` is not run by the old one.
STAMP  := $(VENV)/.crewlog-setup-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test interpreters lint format bench lock clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## A .venv in this checkout with everything in it

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "crewlog needs Python 3.11 or newer: set PYTHON=/path/to/python3.11 and try again."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing: on Debian or Ubuntu, 'apt-get install python3-venv'."; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: setup  ## Real jobs on this checkout, watched live, through a kill -9
	$(BIN)/python -m tests.demo

serve: setup  ## The server on http://127.0.0.1:8080
	$(BIN)/crewlog serve

test: setup  ## The whole suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

interpreters: setup  ## The unit suites on every other Python from 3.11 on that is here
	$(BIN)/python -m tests.interpreters

lint: setup  ## ruff, format check, mypy --strict, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict domain projections scheduler api tests
	$(BIN)/lint-imports

format: setup  ## Rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## Ratios to baselines measured in the same run, as one JSON object
	@$(BIN)/python -m tests.bench

lock: setup  ## Refresh the lock files, with hashes and without index addresses
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-emit-index-url --no-emit-find-links --no-header -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-emit-index-url --no-emit-find-links --no-header --extra dev -o requirements-dev.lock pyproject.toml

clean:  ## Remove what set-up and tests made
	rm -rf $(VENV) .venv-3.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
