# What one does here. Needs Python 3.11 to 3.13 (PYTHON=python3.13) and pip; everything
# goes into .venv.
PYTHON ?= python3.11
PIP_ARGS ?=
BIN := .venv/bin

# Tests of what stands alone: rules of the house, settings, arithmetic, network, messages.
QUICK := tests/test_house.py tests/test_adding.py $(addprefix tests/,config io linear metrics model \
	strategies sums wire)

.DEFAULT_GOAL := help
.PHONY: help demo compose-demo test test-all test-fast check lint bench site clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

demo: .venv/runtime  ## set up, download ml-100k, train on 4 nodes, compare with the floors (5 minutes)
	@$(BIN)/mrff demo

compose-demo:  ## the same in containers: a SuperLink and 4 nodes with TLS; needs Docker with compose
	@docker/demo.sh

test: .venv/dev  ## set up and run the tests, real Flower runs included
	@$(BIN)/python -m pytest -n auto --no-loadscope-reorder -m "not long"

test-all: .venv/dev  ## every test: those of several minutes as well, as is done every night
	@$(BIN)/python -m pytest -n auto --no-loadscope-reorder

check: lint  ## the linters, and the tests that take least: for every change while at work
	@$(BIN)/python -m pytest -q -n 2 -m "not slow" $(QUICK)

test-fast: .venv/dev  ## the tests that take seconds
	@$(BIN)/python -m pytest -m "not slow"

lint: .venv/dev  ## ruff, mypy and the arrows between the packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev  ## the short benchmarks
	$(BIN)/python benchmarks/round_speed.py
	$(BIN)/python benchmarks/device_cost.py

site: .venv/site  ## build the documents as a site into site/; a warning fails
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -d build/doctrees docs site
	@echo "open site/index.html"

clean:  ## remove the environment and caches; data and runs in MRFF_HOME stay
	rm -rf .venv build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/runtime: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e .
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	@touch $@ .venv/runtime

.venv/site: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[site]"
	@touch $@ .venv/runtime
