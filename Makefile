# Every target makes the virtual environment that it needs.
PYTHON ?= python3
DEMO := .venv-demo
TEST := .venv-test
OLDEST := .venv-oldest
ENGINES := .venv-engines
SERVING := .venv-serving
TRANSFORMERS := .venv-transformers
PEERS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint soak engines oldest bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

$(DEMO)/made: pyproject.toml
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install -q -e ".[cli,report]"
	@touch $@

$(TEST)/made: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/python -m pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

$(OLDEST)/made: pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install -q "numba==0.61.0" -e ".[cli]" pytest hypothesis scipy
	@touch $@

# The Python files of engines, out of their wheels; nothing of them is installed.
$(ENGINES)/made: $(TEST)/made
	$(TEST)/bin/python tests/engines/fetch_code.py $(ENGINES)
	@touch $@

$(TRANSFORMERS)/made: pyproject.toml
	$(PYTHON) -m venv $(TRANSFORMERS)
	$(TRANSFORMERS)/bin/python -m pip install -q -e . torch "transformers>=5.24,<6" accelerate pytest hypothesis
	@touch $@

# vLLM and SGLang with what their balancing code imports, and no more: enough to run it on a CPU.
$(SERVING)/made: pyproject.toml constraints.txt tests/engines/serving.txt
	$(PYTHON) -m venv $(SERVING)
	$(SERVING)/bin/python -m pip install -q -c constraints.txt -e ".[dev]"
	$(SERVING)/bin/python -m pip install -q -r tests/engines/serving.txt
	$(SERVING)/bin/python -m pip install -q --no-deps "vllm==0.33.0" "sglang==0.5.23"
	@touch $@

demo: $(DEMO)/made ## plan the bundled trace, show what it gains, write a report
	@$(DEMO)/bin/eplb demo

test: $(TEST)/made ## all tests and doctests
	$(TEST)/bin/python -m pytest -q

lint: $(TEST)/made ## ruff and mypy --strict
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/mypy

soak: $(TEST)/made ## the slow tests
	$(TEST)/bin/python -m pytest -q -m slow

engines: $(TEST)/made $(ENGINES)/made $(SERVING)/made $(TRANSFORMERS)/made ## formats against the code of SGLang, vllm-ascend, Megatron-core; recording with transformers
	EPLB_ENGINES=$(CURDIR)/$(ENGINES) $(TEST)/bin/python -m pytest -q -m engine
	$(SERVING)/bin/python -m pytest -q -m engine tests/engines/test_vllm_code.py tests/engines/test_sglang_code.py
	$(TRANSFORMERS)/bin/python -m pytest -q -m engine tests/recording tests/benchmarks/test_recording.py

oldest: $(OLDEST)/made ## the planner on the oldest numba that is supported
	$(OLDEST)/bin/python -m pytest -q -p no:cacheprovider tests/planning tests/kernels tests/test_deepseek.py

bench: $(TEST)/made ## run the benchmarks; PEERS="--peer NAME=file.py:function ..." adds others
	$(TEST)/bin/python benchmarks/run_all.py $(PEERS)

clean: ## remove the virtual environments
	rm -rf $(DEMO) $(TEST) $(OLDEST) $(ENGINES) $(SERVING) $(TRANSFORMERS)
