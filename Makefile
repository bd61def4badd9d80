# The two commands of the README are `make demo` and `make test`; everything else is a part of them.

PYTHON ?= python3
WORKERS ?= 4
BIN := .venv/bin
# The tests start some thousand processes, each of which would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup setup-core demo test check format bench docs-reference clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{ printf "make %-16s %s\n", $$1, $$2 }'

setup: ## Make .venv with everything the gate needs (nothing to do when it is current)
	@$(PYTHON) scripts/setup.py dev

setup-core: ## Make .venv with what Remanence itself needs
	@$(PYTHON) scripts/setup.py core

demo: setup-core ## Set everything up and take the guided tour
	@$(BIN)/remanence demo

test: check ## Set everything up, run the checks, then the tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --inline-snapshot=disable

check: setup ## Lint, format, types, floors, sizes, names
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python scripts/check_house.py

format: setup ## Put the code in shape
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

bench: setup ## Measure speed; JSON and a table
	@$(BIN)/python -m bench

docs-reference: setup ## Write docs/reference again from the code
	@$(BIN)/python scripts/docs_reference.py

clean: ## Remove what these commands made
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
