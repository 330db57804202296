# Every target sets up .venv by itself; the stamp makes the second time free.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN_FLAGS ?=
DATA ?= $(CXRBENCH_DATA)/covid19-radiography

.PHONY: run test test-slow gpu bench bench-compare feature-speed startup plan-accuracy precision-parity audit-figures agreement calibrate breaks family seed-diagnosis lint format clean

# Into a folder of its own: results/ itself comes with records, and a run that finds its records trains nothing.
run: $(STAMP)  ## the main job: a leaderboard on the embedded phantom
	$(BIN)/cxrbench run --results results/local $(RUN_FLAGS)

test: $(STAMP) lint  ## what CI runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile  # a worker a core; what a file's tests share is made once

test-slow: $(STAMP)  ## the tests that take longer
	$(BIN)/python -m pytest -m "slow and not gpu"

gpu: $(STAMP)  ## everything that needs a CUDA device, in one go
	mkdir -p results/local
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m bench.throughput results/local/throughput-gpu --device cuda
	$(BIN)/python -m pytest bench/ --benchmark-only --benchmark-json=results/local/bench-gpu.json
	$(BIN)/cxrbench run --tier standard --device cuda --results results/local $(RUN_FLAGS)

bench: $(STAMP)  ## train steps against plain loops and the machine's peaks; synthesis, features, distances
	$(BIN)/python -m bench.throughput results/local/throughput
	$(BIN)/python -m bench.seeds_at_once results/local/throughput/seeds-at-once.json
	$(BIN)/python -m pytest bench/ --benchmark-only

bench-compare: $(STAMP)  ## the ratios of `make bench` against the committed ones
	$(BIN)/python -m bench.throughput_compare results/throughput/throughput.json results/local/throughput/throughput.json

feature-speed: $(STAMP)  ## InceptionV3's features: ours beside torch-fidelity's own call
	$(BIN)/python -m bench.feature_speed results/features

startup: $(STAMP)  ## how soon commands answer that have nothing to compute
	$(BIN)/python -m bench.startup results/throughput

plan-accuracy: $(STAMP)  ## what `plan --costs` predicts beside what a run then takes
	$(BIN)/python -m bench.plan_accuracy results/throughput/plan.json

precision-parity: $(STAMP)  ## nets trained in bf16 against nets trained in float32 (DATA=path/to/radiography; half an hour)
	$(BIN)/python -m bench.precision_parity results/precision --data $(DATA)

audit-figures: $(STAMP)  ## shortcut probes on phantoms whose truth is known; how the duplicate search grows
	$(BIN)/python -m bench.shortcut_curve results/audit/phantom-shortcuts
	$(BIN)/python -m bench.duplicate_search results/audit/duplicate-search.json

agreement: $(STAMP)  ## our fidelity measures against torch-fidelity and scipy, and how fast; how long a report of 2,000 records takes
	$(BIN)/python -m bench.metric_agreement results/metrics
	$(BIN)/python -m bench.fidelity_stage results/metrics/fidelity-stage.json
	$(BIN)/python -m bench.report_speed results/metrics/report-speed.json

calibrate: $(STAMP)  ## are verdicts wrong as seldom, and right as often, as they say?
	$(BIN)/python -m bench.calibrate_verdicts results/calibration

breaks: $(STAMP)  ## what the report says of generators that cheat
	$(BIN)/python -m bench.deliberate_breaks results/breaks

family: $(STAMP)  ## every generator fitted once on real films at 64 px: table and pictures (DATA=path/to/radiography; hours)
	$(BIN)/python -m bench.family results/family --data $(DATA)

seed-diagnosis: $(STAMP)  ## the study's recipe with its choices undone one by one (DATA=path/to/radiography; half an hour)
	$(BIN)/python -m bench.seed_diagnosis results/seed-diagnosis --data $(DATA)

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
