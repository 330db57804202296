# Every target sets up .venv by itself; the stamp makes the second time free.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN_FLAGS ?=

.PHONY: run test test-slow gpu bench audit-figures lint format clean

# Into a folder of its own: results/ itself comes with records, and a run that finds its records trains nothing.
run: $(STAMP)  ## the main job: a leaderboard on the embedded phantom
	$(BIN)/cxrbench run --results results/local $(RUN_FLAGS)

test: $(STAMP) lint  ## what CI runs
	$(BIN)/python -m pytest

test-slow: $(STAMP)  ## the tests that take longer
	$(BIN)/python -m pytest -m "slow and not gpu"

gpu: $(STAMP)  ## everything that needs a CUDA device, in one go
	mkdir -p results/local
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m pytest bench/ --benchmark-only --benchmark-json=results/local/bench-gpu.json
	$(BIN)/cxrbench run --tier standard --device cuda --results results/local $(RUN_FLAGS)

bench: $(STAMP)  ## train-step throughput against plain PyTorch loops
	$(BIN)/python -m pytest bench/ --benchmark-only

audit-figures: $(STAMP)  ## shortcut probes on phantoms whose truth is known; how the duplicate search grows
	$(BIN)/python -m bench.shortcut_curve results/audit/phantom-shortcuts
	$(BIN)/python -m bench.duplicate_search results/audit/duplicate-search.json

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $(STAMP)
