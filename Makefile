# What people and CI call. `make` alone explains itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
OUT    ?= out
BENCH  ?=
# Tests run in a process for each core. Where some are left, the idle one takes from the others' end,
# so that most tests of a module, and what they share, stay together.
PYTEST := $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal

.DEFAULT_GOAL := help
.PHONY: help setup score score-digits test test-quick test-long test-faults browser-test k8s-test bench bench-setup bench-checkpoints check lock sample-data clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "; print "make TARGET, where TARGET is one of\n"} \
	      /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv/ from the lock (the other targets do this when it is needed)

# Stale as soon as the lock or the packaging changes.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "shardscore needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  --requirement requirements.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps \
	  --no-build-isolation --editable .
	@touch $@

score: $(READY) ## Score the sample flights into out/flights, and make the page that says how it went
	$(BIN)/shardscore score --config sample_data/flights.toml --output $(OUT)/flights
	$(BIN)/shardscore report $(OUT)/flights

score-digits: $(READY) ## Score PNG images of digits into out/digit_images, and tell the accuracy
	$(BIN)/shardscore score --config sample_data/digit_images.toml --output $(OUT)/digit_images
	$(BIN)/python sample_data/accuracy.py $(OUT)/digit_images

test: $(READY) ## Run the tests, but for the long ones, the sweeps over faults and the browser's
	$(PYTEST) -m 'not faults and not long and not browser'

test-quick: $(READY) ## Run the tests that take less than ten seconds each
	$(PYTEST) -m 'not slow and not long and not faults and not browser'

test-long: $(READY) ## Run the long tests: compare, memory, the benchmark, the README's commands (five minutes)
	$(PYTEST) -m long

test-faults: $(READY) ## Sweep over faults: kills, full disks, system calls (needs root and strace)
	$(PYTEST) -m faults -rA

browser-test: $(READY) ## Look at the report in a real browser (needs Debian's chromium and chromium-driver)
	$(BIN)/python -m pytest -m browser tests/browser

k8s-test: $(READY) ## Hold the Kubernetes manifests against its schemas, and run their Job for real
	$(PYTEST) tests/kubernetes

bench-setup: $(READY) ## Make the environments of those that `make bench` compares with
	$(BIN)/python -m tests.bench.environments

bench: $(READY) ## Compare with other ways to score (more than an hour; BENCH='--scale 0.02' to try)
	$(BIN)/python -m tests.bench $(BENCH)

bench-checkpoints: $(READY) ## Measure what checkpoints cost (about ten minutes)
	$(BIN)/python -m tests.bench.checkpoints

check: $(READY) ## Lint, format, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(READY) ## Renew requirements.lock from pyproject.toml
	$(BIN)/pip-compile --quiet --upgrade --extra dev --generate-hashes --allow-unsafe --strip-extras \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header \
	  --output-file requirements.lock pyproject.toml

sample-data: $(READY) ## Rebuild sample_data/ from its sources
	$(BIN)/python sample_data/build.py

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(OUT) .bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
