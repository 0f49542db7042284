# Every word a person types. `make up` is the whole introduction; `make test` is what CI runs.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FLOWFORGE := $(BIN)/flowforge
# Processes that share the tests: one more than the cores of a small machine, as most tests wait.
WORKERS ?= 4

.DEFAULT_GOAL := help
.PHONY: help up down forget check test test-all test-cluster bench docs deploy lock

help: ## say what each word does
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

# The environment: the Python that is here, never a downloaded one, and exactly what the lock says.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "FlowForge needs Python 3.11 or newer; $$($(PYTHON) --version) was found. Set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@UV=$$(command -v uv || echo "$(BIN)/uv"); export UV_PYTHON_DOWNLOADS=never; \
	  "$$UV" pip sync --quiet --python $(BIN)/python requirements.lock && \
	  "$$UV" pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

up: $(READY) ## start everything on this machine, run the tour, print the evidence
	@$(FLOWFORGE) up

down: $(READY) ## stop everything; data stays
	@$(FLOWFORGE) down

forget: $(READY) ## stop everything and wipe its data
	@$(FLOWFORGE) down --forget

check: $(READY) ## format, lint, types, floors, rules: under a minute
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q tests/rules tests/architecture

test: $(READY) ## every test that needs only this machine
	@$(BIN)/pytest -n $(WORKERS) -m "not slow"

test-all: $(READY) ## the slow ones too: fault matrices, kill -9 at every named step
	@$(BIN)/pytest -n $(WORKERS)

test-cluster: $(READY) ## sandboxes in the Kubernetes cluster of KUBECONFIG: every rule of theirs, fork bombs too
	@$(BIN)/python -m tests.engines.sandboxes.namespaces
	@$(BIN)/pytest -m cluster

bench: $(READY) ## side by side with pg_dump, as ratios measured in one run
	@$(BIN)/python -m bench

docs: $(READY) ## take the screenshots in docs/images anew (needs a running platform and chromium)
	@$(BIN)/python docs/screenshots.py

deploy: $(READY) ## bring the server in line with prefect.yaml
	@$(FLOWFORGE) deploy

lock: ## resolve requirements.lock anew from pyproject.toml
	@uv pip compile pyproject.toml --extra twin --extra dev --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --quiet -o requirements.lock
