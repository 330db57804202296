# Every target sets up .venv by itself; the stamp makes the second time free.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN_FLAGS ?=
DATA ?= $(CXRBENCH_DATA)/covid19-radiography
EXTERNAL ?= $(CXRBENCH_DATA)/external
GPU_PYTHON ?= $(BIN)/python
GPU_SETUP ?= $(STAMP)
GPU_DEVICE ?= cuda
GPU_OUT ?= results/local/gpu
GPU_LIMIT ?= 86400
GPU_RUN = timeout --foreground --signal TERM --preserve-status $(GPU_LIMIT) $(GPU_PYTHON) -m cxrbench
GPU_GRID = --generators cgan-seed,cgan,dcgan,flow,classical --seeds 1 --device $(GPU_DEVICE) --data $(DATA) \
	--clean quarantine --external $(EXTERNAL) --results $(GPU_OUT)/results $(RUN_FLAGS)

.PHONY: run test test-slow gpu gpu-tests gpu-throughput gpu-standard gpu-full gpu-study bench bench-compare feature-speed startup quick-run plan-accuracy precision-parity audit-figures agreement calibrate breaks family seed-diagnosis lint format clean

# Into a folder of its own: results/ itself comes with records, and a run that finds its records trains nothing.
run: $(STAMP)  ## the main job: a leaderboard on the embedded phantom
	$(BIN)/cxrbench run --results results/local $(RUN_FLAGS)

test: $(STAMP) lint  ## what CI runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile  # a worker a core; what a file's tests share is made once

test-slow: $(STAMP)  ## the tests that take longer
	$(BIN)/python -m pytest -m "slow and not gpu"

gpu: $(GPU_SETUP)  ## everything that needs a CUDA device, in one go
	$(MAKE) --keep-going gpu-tests gpu-throughput gpu-standard gpu-study gpu-full
# The last three go on where they were ended, so they can be called again until they are done: GPU_LIMIT are the seconds
# of one call. Where nothing can be installed: make gpu GPU_PYTHON=python3 GPU_SETUP= (with cxrbench on the path).
# DATA=path/to/radiography, EXTERNAL=path/to/films of other hospitals.

gpu-tests: $(GPU_SETUP)
	$(GPU_PYTHON) -m pytest -m gpu tests/baselines

gpu-throughput: $(GPU_SETUP)  ## train steps against plain loops, also of large films; bf16 against float32; synthesis, features
	-$(GPU_PYTHON) -m bench.throughput $(GPU_OUT)/throughput --device $(GPU_DEVICE) --seconds 10
	$(GPU_PYTHON) -m bench.precision_parity $(GPU_OUT)/precision --device $(GPU_DEVICE) --data $(DATA)
	$(GPU_PYTHON) -m pytest bench/test_synthesis_and_features.py --benchmark-only --benchmark-json=$(GPU_OUT)/bench.json

gpu-standard: $(GPU_SETUP)  ## tier standard, 128 px
	$(GPU_RUN) run --tier standard $(GPU_GRID)

gpu-full: $(GPU_SETUP)  ## tier full, 299 px
	$(GPU_RUN) run --tier full $(GPU_GRID)

# 3,000 of the study's 5,000 films are trained on, four at a time: 750 steps are an epoch.
gpu-study: $(GPU_SETUP)  ## the study's 500 epochs of cgan-seed, to the end
	$(GPU_RUN) train --generator cgan-seed --size 300 --tier full --steps 375000 --save-every 300 --device $(GPU_DEVICE) \
		--data $(DATA) --labels 'Normal=Other,Viral Pneumonia=-' --out $(GPU_OUT)/study

bench: $(STAMP)  ## train steps against plain loops and the machine's peaks; synthesis, features, distances
	$(BIN)/python -m bench.throughput results/local/throughput
	$(BIN)/python -m bench.seeds_at_once results/local/throughput/seeds-at-once.json
	$(BIN)/python -m pytest bench/ --benchmark-only

bench-compare: $(STAMP)  ## the ratios of `make bench` against the committed ones
	$(BIN)/python -m bench.throughput_compare results/throughput/throughput.json results/throughput/float32/throughput.json \
		results/local/throughput/throughput.json

feature-speed: $(STAMP)  ## InceptionV3's features: ours beside torch-fidelity's own call
	$(BIN)/python -m bench.feature_speed results/features

startup: $(STAMP)  ## how soon commands answer that have nothing to compute
	$(BIN)/python -m bench.startup results/throughput

quick-run: $(STAMP)  ## how long the quick run takes, by turns with the last commit before speed was worked on
	$(BIN)/python -m bench.quick_run results/throughput

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
