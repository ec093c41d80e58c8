# Every target makes the virtual environment that it needs.
PYTHON ?= python3
DEMO := .venv-demo
TEST := .venv-test
OLDEST := .venv-oldest
PEERS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint soak oldest bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

$(DEMO)/made: pyproject.toml
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install -q -e ".[cli]"
	@touch $@

$(TEST)/made: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/python -m pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

$(OLDEST)/made: pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install -q "numba==0.61.0" -e ".[cli]" pytest hypothesis
	@touch $@

demo: $(DEMO)/made ## plan the bundled trace and show what it gains
	@$(DEMO)/bin/eplb demo

test: $(TEST)/made ## all tests and doctests
	$(TEST)/bin/python -m pytest -q

lint: $(TEST)/made ## ruff and mypy --strict
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/mypy

soak: $(TEST)/made ## the slow tests
	$(TEST)/bin/python -m pytest -q -m slow

oldest: $(OLDEST)/made ## the planner on the oldest numba that is supported
	$(OLDEST)/bin/python -m pytest -q -p no:cacheprovider tests/planning tests/kernels tests/test_deepseek.py

bench: $(TEST)/made ## run the benchmarks; PEERS="--peer NAME=file.py:function ..." adds others
	$(TEST)/bin/python benchmarks/run_all.py $(PEERS)

clean: ## remove the virtual environments
	rm -rf $(DEMO) $(TEST) $(OLDEST)
