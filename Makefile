# Everything is done in .venv, which `make` creates. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export PYTHONWARNINGS :=

.PHONY: help demo test lint bench bench-upstream bench-network clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/testground: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(BIN)/testground
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(BIN)/testground ## run the main job: the gossip example, two groups, verdict and archive
	@PATH="$(abspath $(BIN)):$$PATH" TESTGROUND_HOME="$${TESTGROUND_HOME:-$(abspath .demo)}" sh examples/demo.sh

test: $(VENV)/.dev ## all tests
	$(BIN)/python -m pytest

lint: $(VENV)/.dev ## style, types and the layers of design
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for plan in examples/0[1-5]-*/ examples/*/mixed/; do $(BIN)/mypy --strict $$plan*.py || exit 1; done
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## speed and size, as figures beside their targets
	$(BIN)/python -m tests.bench

bench-upstream: $(VENV)/.dev ## ours beside the published Go programs; needs go
	$(BIN)/python -m tests.bench.upstream

bench-network: $(VENV)/.dev ## what isolated networks do, and how fast they are made; Linux
	$(BIN)/python -m tests.bench.network

clean: ## remove what the other targets made
	rm -rf $(VENV) .demo .upstream .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
